import { placeEnclave, removeOtherEnclaves } from '../enclave/enclave-image.ts';
import { VmmError } from '../errors.ts';
import { withMachine } from '../folder/machine-folder.ts';
import { confirmUpdate, hasOpenUpdate, openUpdate, renewGuest, undoUpdate } from '../folder/open-update.ts';
import { finishUpdate, stageUpdate } from '../folder/shared-update.ts';
import { type CvmManifest, readManifest } from '../manifest/manifest.ts';
import { cvmPaths } from '../manifest/paths.ts';
import { readState } from '../state/state.ts';
import { supervisorOf } from '../state/supervisor-of.ts';
import { growDataDisk } from '../vm/data-disk.ts';
import { checkChange, portsInUse } from './check-change.ts';
import type { CreateOptions } from './create-options.ts';
import { imagesDiskOf, placeImages, removeOtherImages } from './images-disk.ts';
import { nextManifest, withImages } from './make-manifest.ts';

export interface UpdateOptions {
  /** Keeps what was before until `closeUpdate`, which a failed start undoes. */
  readonly open?: boolean;
  /** An open update that also gives the machine an empty guest; its data disk stays. */
  readonly fresh?: boolean;
  /** Changes a running machine too: what it reads at its next boot. The caller has checked that nothing else changes. */
  readonly whileRunning?: boolean;
}

/**
 * Gives a stopped machine new host-shared files and settings; its id, its disk and its simulated hardware stay. A file
 * that is not given is removed. After a kill at any moment the next start or update has all of the old or all of the new.
 * Throws as `createCvm` does, and `running`, `locked`, `not_found`.
 */
export async function updateCvm(options: CreateOptions, update: UpdateOptions = {}): Promise<CvmManifest> {
  const { dir, shared } = options;
  return await withStopped(dir, update.whileRunning === true, async (before) => {
    const wanted = nextManifest(before, options);
    await checkChange(options, wanted, await portsInUse(dir));
    const next = withImages(wanted, dir, await placeImages(dir, options.images ?? []));
    // A disk that is larger than its machine says does no harm, should the update be taken back.
    if (next.driver === 'vm') await growDataDisk(cvmPaths(dir).dataDisk, next.vm.disk_size);
    if (options.enclave !== undefined) await placeEnclave(dir, options.enclave.file, options.image);
    if (update.open || update.fresh) await openUpdate(dir);
    else await confirmUpdate(dir);
    if (update.fresh) await renewGuest(dir);
    await stageUpdate(dir, shared, next);
    await finishUpdate(dir);
    if (!hasOpenUpdate(dir)) await removeOthers(dir, next);
    return next;
  });
}

/** Does what a killed command had decided, so that all of a machine's files are of one update. Throws as `updateCvm`. */
export async function settleCvm(dir: string): Promise<void> {
  await withMachine(dir, {}, () => finishUpdate(dir));
}

/** Takes an open update of a stopped machine back, or lets it hold. False when there is none. Throws as `updateCvm`. */
export async function closeUpdate(dir: string, outcome: 'undo' | 'confirm'): Promise<boolean> {
  const isOpen = hasOpenUpdate(dir);
  if (outcome === 'confirm')
    await withMachine(dir, { evenWhenFull: true }, async () => {
      await confirmUpdate(dir);
      await removeOthers(dir, await readManifest(dir));
    });
  else await withStopped(dir, false, () => undoUpdate(dir));
  return isOpen;
}

/** What revisions that are no more left in the folder of the machine. */
async function removeOthers(dir: string, manifest: CvmManifest): Promise<void> {
  await removeOtherImages(dir, [imagesDiskOf(manifest)]);
  await removeOtherEnclaves(dir, manifest);
}

async function withStopped<T>(
  dir: string,
  orRunning: boolean,
  body: (before: CvmManifest) => Promise<T>,
): Promise<T> {
  return await withMachine(dir, {}, async () => {
    await finishUpdate(dir);
    const before = await readManifest(dir);
    if (!orRunning && supervisorOf(dir, await readState(dir)) !== undefined)
      throw new VmmError('running', `${before.name} is running: stop it first`);
    return await body(before);
  });
}

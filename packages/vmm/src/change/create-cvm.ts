import { randomBytes } from 'node:crypto';
import { link, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isThere, makeOwnDirectory, removeAbandoned, temporaryName } from '@dstack-cloud/files';
import { placeEnclave } from '../enclave/enclave-image.ts';
import { VmmError } from '../errors.ts';
import { asVmmErrors, requireMachineFolder } from '../folder/machine-folder.ts';
import { writeShared } from '../folder/shared-update.ts';
import {
  type CvmManifest,
  MANIFEST_FILE,
  parseManifest,
  readManifest,
  writeManifest,
} from '../manifest/manifest.ts';
import { cvmPaths } from '../manifest/paths.ts';
import { INITIAL_STATE, writeState } from '../state/state.ts';
import { chooseAcceleration } from '../vm/acceleration.ts';
import { checkVm } from '../vm/check-vm.ts';
import { makeDataDisk } from '../vm/data-disk.ts';
import { planMachine } from '../vm/plan-machine.ts';
import { qemuArguments } from '../vm/qemu-arguments.ts';
import { checkChange, portsInUse } from './check-change.ts';
import type { CreateOptions } from './create-options.ts';
import { placeImages } from './images-disk.ts';
import { makeManifest, nextManifest, withImages } from './make-manifest.ts';

/**
 * Makes a machine, not started. All is checked before anything is written, and a failure half way leaves no folder.
 * Throws `already_exists`, `bad_option`, `port_in_use`, `bad_manifest`, `not_ours`.
 */
export async function createCvm(options: CreateOptions): Promise<CvmManifest> {
  const { dir } = options;
  if (isThere(dir)) throw new VmmError('already_exists', `${dir} exists already`);
  const wanted = parseManifest(JSON.stringify(makeManifest(options)), join(dir, MANIFEST_FILE));
  await checkChange(options, wanted);
  await asVmmErrors(dir, async () => makeOwnDirectory(dirname(dir)));
  await ensureSeed(options.seedFile);
  // What killed processes left half made.
  removeAbandoned(dirname(dir));
  const staged = join(dirname(dir), temporaryName(basename(dir)));
  try {
    await mkdir(staged, { mode: 0o700 });
    await writeShared(staged, options.shared);
    await writeState(staged, INITIAL_STATE);
    const manifest = withImages(wanted, dir, await placeImages(staged, options.images ?? []));
    await writeManifest(staged, manifest);
    if (manifest.driver === 'vm') await makeDataDisk(cvmPaths(staged).dataDisk, manifest.vm.disk_size);
    if (options.enclave !== undefined) await placeEnclave(staged, options.enclave.file, options.image);
    // A machine is there whole or not at all; of two made at once the second fails here.
    await rename(staged, dir).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EEXIST' || cause.code === 'ENOTEMPTY')
        throw new VmmError('already_exists', `${dir} exists already`, { cause });
      throw cause;
    });
    return manifest;
  } catch (error) {
    await rm(staged, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Checks what `createCvm` or, for a machine that is there, `updateCvm` would be given, and changes nothing. Ports that
 * the machine itself has now count as free. Throws what these would throw.
 */
export async function checkCvm(options: CreateOptions): Promise<void> {
  const { dir } = options;
  if (!isThere(dir)) {
    const manifest = parseManifest(JSON.stringify(makeManifest(options)), join(dir, MANIFEST_FILE));
    return await checkChange(options, manifest);
  }
  await requireMachineFolder(dir);
  const next = nextManifest(await readManifest(dir), options);
  await checkChange(options, next, await portsInUse(dir));
}

/** The command line of QEMU of a virtual machine that would be made so; makes nothing. Throws as `checkCvm`. */
export async function plannedCommand(options: CreateOptions): Promise<string[]> {
  const { dir, shared } = options;
  const manifest = parseManifest(JSON.stringify(makeManifest(options)), join(dir, MANIFEST_FILE));
  if (manifest.driver !== 'vm') throw new VmmError('bad_option', `${manifest.name} is no virtual machine`);
  await checkChange(options, manifest);
  const host = await checkVm(dir, manifest);
  const { folder, kernel } = host.image;
  const wanted = manifest.tee.kind === 'tdx' ? 'kvm' : manifest.vm.acceleration;
  const { acceleration } = await chooseAcceleration(wanted, host.qemu.path, join(folder, kernel));
  const run = { host, acceleration, shared, runDir: dir, hostPorts: [] };
  return qemuArguments(planMachine(manifest, cvmPaths(dir), run));
}

/** A new seed appears whole or not at all, and never in the place of one that is there. */
async function ensureSeed(path: string): Promise<void> {
  if (isThere(path)) return;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = join(dirname(path), temporaryName(basename(path)));
  await writeFile(temporary, randomBytes(32), { mode: 0o600, flag: 'wx', flush: true });
  try {
    await link(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

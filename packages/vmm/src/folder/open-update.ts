import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isThere } from '@dstack-cloud/files';
import { readManifest, writeManifest } from '../manifest/manifest.ts';
import { cvmPaths } from '../manifest/paths.ts';
import { DECIDED, finishUpdate, readShared, writeShared } from './shared-update.ts';

/** The machine as it was before an update that is not confirmed yet. */
const PREVIOUS = '.previous';
/** The same while it is written or removed. */
const STAGED = '.previous.staged';

/** Whether the last update was neither confirmed nor taken back: whoever made it was killed, or still waits. */
export function hasOpenUpdate(dir: string): boolean {
  return isThere(join(dir, PREVIOUS));
}

/** Keeps what an update is about to change, in one step. An older one that is still open stays: that one was good. */
export async function openUpdate(dir: string): Promise<void> {
  if (hasOpenUpdate(dir)) return;
  const staged = join(dir, STAGED);
  await rm(staged, { recursive: true, force: true });
  try {
    await mkdir(staged, { mode: 0o700 });
    await writeShared(staged, await readShared(dir));
    await writeManifest(staged, await readManifest(dir));
    await rename(staged, join(dir, PREVIOUS));
  } catch (error) {
    await rm(staged, { recursive: true, force: true });
    throw error;
  }
}

/** The update holds: what was before is not needed any more, nor what a killed process left of it. */
export async function confirmUpdate(dir: string): Promise<void> {
  await rm(join(dir, STAGED), { recursive: true, force: true });
  if (!hasOpenUpdate(dir)) return;
  // Under another name first: half of it must not look like the whole.
  await rename(join(dir, PREVIOUS), join(dir, STAGED));
  await rm(join(dir, STAGED), { recursive: true, force: true });
}

/** Makes the machine again what it was before the open update; after a kill it may be done once more. */
export async function undoUpdate(dir: string): Promise<void> {
  await rm(join(dir, STAGED), { recursive: true, force: true });
  if (!hasOpenUpdate(dir)) return;
  await putGuestBack(dir);
  await rm(join(dir, DECIDED), { recursive: true, force: true });
  await rename(join(dir, PREVIOUS), join(dir, DECIDED));
  await finishUpdate(dir);
}

/** Gives the machine an empty guest; only its data disk moves over. Needs an open update. */
export async function renewGuest(dir: string): Promise<void> {
  const { guest, work, data } = cvmPaths(dir);
  const old = cvmPaths(join(dir, PREVIOUS));
  if (isThere(guest) && !isThere(old.guest)) await rename(guest, old.guest);
  await mkdir(work, { recursive: true, mode: 0o700 });
  if (isThere(old.data)) await rename(old.data, data);
}

async function putGuestBack(dir: string): Promise<void> {
  const { guest, data } = cvmPaths(dir);
  const old = cvmPaths(join(dir, PREVIOUS));
  if (!isThere(old.guest)) return;
  if (isThere(data) && !isThere(old.data)) await rename(data, old.data);
  await rm(guest, { recursive: true, force: true });
  await rename(old.guest, guest);
}

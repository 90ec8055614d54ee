import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AppError,
  HOST_SHARED_LIMITS,
  type HostSharedName,
  readFileBounded,
  writeFileAtomic,
} from '@dstack-cloud/app';
import { isThere } from '@dstack-cloud/files';

import { type CvmManifest, readManifest, writeManifest } from '../manifest/manifest.ts';

/** The host-shared files by name; only these names are known. */
export type HostShared = Readonly<Partial<Record<HostSharedName, Uint8Array>>>;

/** A whole update that is decided but perhaps not yet done. */
export const DECIDED = '.update';
/** One that is being written. */
const STAGED = '.update.staged';

/** Replaces the host-shared files of the machine in `dir`; one that is not given is removed. */
export async function writeShared(dir: string, shared: HostShared): Promise<void> {
  await mkdir(join(dir, 'shared'), { recursive: true, mode: 0o700 });
  for (const name of Object.keys(HOST_SHARED_LIMITS) as HostSharedName[]) {
    const path = join(dir, 'shared', name);
    const bytes = shared[name];
    if (bytes === undefined) await rm(path, { force: true });
    else await writeFileAtomic(path, bytes, { mode: 0o600 });
  }
}

/** Writes an update aside and decides for it in one step; until then nothing of the machine has changed. */
export async function stageUpdate(dir: string, shared: HostShared, manifest: CvmManifest): Promise<void> {
  const staged = join(dir, STAGED);
  await rm(staged, { recursive: true, force: true });
  try {
    await mkdir(staged, { mode: 0o700 });
    await writeShared(staged, shared);
    await writeManifest(staged, manifest);
    await rename(staged, join(dir, DECIDED));
  } catch (error) {
    await rm(staged, { recursive: true, force: true });
    throw error;
  }
}

/** Does a decided update, also one that a killed command left: it may be done twice, and goes only when it is done. */
export async function finishUpdate(dir: string): Promise<void> {
  const decided = join(dir, DECIDED);
  // One that was not decided, or of which only the removal is left.
  await rm(join(dir, STAGED), { recursive: true, force: true });
  if (!isThere(decided)) return;
  const manifest = await readManifest(decided);
  await writeShared(dir, await readShared(decided));
  await writeManifest(dir, manifest);
  // Under another name first: half of an update must not look like a whole one.
  await rename(decided, join(dir, STAGED));
  await rm(join(dir, STAGED), { recursive: true, force: true });
}

/** The host-shared files below `dir`. */
export async function readShared(dir: string): Promise<HostShared> {
  const shared: Partial<Record<HostSharedName, Uint8Array>> = {};
  for (const name of Object.keys(HOST_SHARED_LIMITS) as HostSharedName[]) {
    const bytes = await readStaged(join(dir, 'shared', name), HOST_SHARED_LIMITS[name]);
    if (bytes !== undefined) shared[name] = bytes;
  }
  return shared;
}

async function readStaged(path: string, limit: number): Promise<Uint8Array | undefined> {
  try {
    return await readFileBounded(path, limit, { noFollow: true });
  } catch (error) {
    if (error instanceof AppError && error.code === 'file-missing') return undefined;
    throw error;
  }
}

import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isThere, requireOwnDirectory } from '@dstack-cloud/files';
import { isMachineId } from './machine.ts';

const FOLDER = '.trash';
const NAME = /^(.{36})\.(\d{1,15})$/;

/** Makes the folder of removed machines, below a run folder that is there. */
export async function makeTrash(runPath: string): Promise<string> {
  const trash = join(runPath, FOLDER);
  if (!isThere(trash))
    await mkdir(trash, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  requireOwnDirectory(trash);
  return trash;
}

/** Takes a machine's folder out of sight in one step. Its disk can be had back until the trash is emptied. */
export async function moveToTrash(runPath: string, id: string, now: number): Promise<string> {
  const target = join(await makeTrash(runPath), `${id}.${now}`);
  await rename(join(runPath, id), target);
  return target;
}

/** Deletes what has been in the trash for longer than `ttlMs`; the number of machines deleted. */
export async function emptyTrash(runPath: string, ttlMs: number, now: number): Promise<number> {
  const trash = join(runPath, FOLDER);
  const names = await readdir(trash).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (names.length === 0) return 0;
  // Nothing is deleted through a link, or out of a folder that others may write to.
  requireOwnDirectory(trash);
  let deleted = 0;
  for (const name of names) {
    const [, id = '', since = ''] = NAME.exec(name) ?? [];
    if (!isMachineId(id) || now - Number(since) < ttlMs) continue;
    await rm(join(trash, name), { recursive: true, force: true });
    deleted += 1;
  }
  return deleted;
}

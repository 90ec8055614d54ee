import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CollateralFiles } from './collateral-files.ts';

const MAX_FILE = 8_388_608;

/** Files in one directory, 0600, written to a temporary name first. What cannot be written is not kept. */
export function openCollateralFiles(directory: string): CollateralFiles {
  return {
    read: (name) => readText(join(directory, name)),
    write: async (name, text) => {
      const temporary = join(directory, `.${name}.${randomUUID()}`);
      try {
        await mkdir(directory, { recursive: true, mode: 0o700 });
        await writeSynced(temporary, text);
        await rename(temporary, join(directory, name));
      } catch {
        // A cache: a full disk costs the next start a fetch, not this verification.
        await rm(temporary, { force: true });
      }
    },
    remove: (name) => rm(join(directory, name), { force: true }),
  };
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      return size > MAX_FILE ? undefined : await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

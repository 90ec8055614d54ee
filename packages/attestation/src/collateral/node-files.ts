import { closeSync, fstatSync, readFileSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  makeOwnDirectory,
  openOwnFile,
  removeAbandoned,
  requireSafeParent,
  temporaryName,
  writeSynced,
} from '@dstack-cloud/files';
import type { CollateralFiles } from './collateral-files.ts';

const MAX_FILE = 8_388_608;

/**
 * Files in one directory of this user alone, 0600, written to a temporary name first. A cache: what cannot be kept or
 * read costs a fetch, not a verification. A directory that somebody else made or may write to is not used, which is said
 * once: else he decides what is there, and what a read waits for.
 */
export function openCollateralFiles(directory: string): CollateralFiles {
  let isUsable: boolean | undefined;
  const usable = (): boolean => {
    isUsable ??= prepare(directory);
    return isUsable;
  };
  return {
    read: async (name) => (usable() ? readText(join(directory, name)) : undefined),
    write: async (name, text) => {
      if (usable()) await writeWhole(directory, name, text);
    },
    remove: async (name) => {
      if (usable()) await rm(join(directory, name), { force: true });
    },
  };
}

function prepare(directory: string): boolean {
  try {
    makeOwnDirectory(directory);
    requireSafeParent(directory);
    removeAbandoned(directory);
    return true;
  } catch (error) {
    process.emitWarning(`No collateral is cached in ${directory}: ${(error as Error).message}`);
    return false;
  }
}

function readText(path: string): string | undefined {
  try {
    const file = openOwnFile(path, 'read');
    try {
      return fstatSync(file).size > MAX_FILE ? undefined : readFileSync(file, 'utf8');
    } finally {
      closeSync(file);
    }
  } catch {
    return undefined;
  }
}

async function writeWhole(directory: string, name: string, text: string): Promise<void> {
  const temporary = join(directory, temporaryName(name));
  try {
    await writeSynced(temporary, text, 0o600);
    await rename(temporary, join(directory, name));
  } catch {
    await rm(temporary, { force: true });
  }
}

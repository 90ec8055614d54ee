import { randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { HOLDER_TAG, holderLives, holderTag } from './holder.ts';
import { requireOwner } from './own-directory.ts';

const TEMPORARY = new RegExp(`^\\..+\\.(${HOLDER_TAG})-[0-9a-f]{16}\\.tmp$`);
/** A temporary file of a process that cannot be seen (another container's) is kept this long. */
const UNSEEN_MS = 3_600_000;

/** Name of a new temporary file or folder beside `name`; it says which process writes it. */
export function temporaryName(name: string): string {
  return `.${name}.${holderTag()}-${randomBytes(8).toString('hex')}.tmp`;
}

/**
 * Removes the temporary files and folders that killed writers left in a folder: those with a name that
 * {@link temporaryName} made, no links, of this user, and of a process that is gone. A folder that is not there, or is not ours, is left alone.
 */
export function removeAbandoned(folder: string): void {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return;
  }
  for (const name of names) {
    const tag = TEMPORARY.exec(name)?.[1];
    if (tag === undefined) continue;
    const path = join(folder, name);
    try {
      const status = lstatSync(path);
      requireOwner(path, status);
      const lives = holderLives(tag) ?? Date.now() - status.mtimeMs < UNSEEN_MS;
      if (!lives && (status.isFile() || status.isDirectory())) rmSync(path, { recursive: true, force: true });
    } catch {
      // Somebody else's, or gone.
    }
  }
}

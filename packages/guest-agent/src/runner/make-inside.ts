import { lstatSync, mkdirSync } from 'node:fs';
import { isAbsolute, join, relative, sep } from 'node:path';
import { GuestError } from '../errors.ts';

/**
 * Makes a folder below another one, part by part. A link on the way is refused: it could lead out of the machine's own
 * folder.
 *
 * @throws GuestError `start-failed`
 */
export function makeInside(root: string, path: string): void {
  if (!isBelow(root, path)) refuse(path, `a path below ${root}`);
  let current = root;
  mkdirSync(root, { recursive: true, mode: 0o700 });
  for (const part of relative(root, path).split(sep).filter(Boolean)) {
    current = join(current, part);
    try {
      mkdirSync(current, { mode: 0o700 });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
      if (!lstatSync(current).isDirectory()) refuse(current, 'a directory, not a link', cause);
    }
  }
}

/** Whether a path is a folder or is below it, lexically; links are not resolved. */
export function isBelow(folder: string, path: string): boolean {
  const below = relative(folder, path);
  return below !== '..' && !below.startsWith(`..${sep}`) && !isAbsolute(below);
}

function refuse(path: string, expected: string, cause?: unknown): never {
  throw new GuestError('start-failed', `${path} cannot be used by the application`, { expected, cause });
}

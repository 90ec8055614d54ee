import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { FilesError, removeAbandoned, requireOwnDirectory, withLock } from '@dstack-cloud/files';
import { VmmError } from '../errors.ts';

/** A command that is told to wait longer says so itself; a boot does not hold the lock. */
const LOCK_WAIT_MS = 60_000;

/**
 * Refuses a machine's folder that does not lie directly below the configured place: what a file of a project names may
 * be anything, and what is done to a machine includes deleting its folder.
 *
 * @returns the absolute path
 * @throws VmmError `not_ours`
 */
export function machineFolder(runPath: string, dir: string): string {
  const path = resolve(dir);
  if (dir !== '' && real(dirname(path)) === real(resolve(runPath)) && !basename(path).startsWith('.'))
    return path;
  throw new VmmError(
    'not_ours',
    `${dir === '' ? 'An empty path' : dir} is no machine below ${runPath}, so nothing was touched: remove the state.json that names it if it came with a copy of another project, or set local.run_path back if you changed it`,
    { expected: `a folder in ${runPath}`, found: dir },
  );
}

/** The one spelling of a path, also when its last part is gone. */
export function canonical(dir: string): string {
  const path = resolve(dir);
  return join(real(dirname(path)), basename(path));
}

/**
 * Runs `body` while no other command works on this machine. The lock of a killed command is free at once.
 *
 * @throws VmmError `locked`, `not_ours`, `not_found`
 */
export async function withMachine<T>(
  dir: string,
  options: { readonly evenWhenFull?: boolean; readonly signal?: AbortSignal },
  body: () => Promise<T>,
): Promise<T> {
  const lock = { waitMs: LOCK_WAIT_MS, what: `The machine in ${dir}`, ...options };
  return await asVmmErrors(dir, () =>
    withLock(dir, 'machine', lock, async () => {
      // Of commands that were killed: nobody else writes here now but the supervisor, who lives.
      for (const folder of [dir, join(dir, 'shared')]) removeAbandoned(folder);
      return await body();
    }),
  );
}

/** Errors of files as this package's own. */
export async function asVmmErrors<T>(dir: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    if (cause instanceof FilesError) {
      const { message, expected, found } = cause;
      throw new VmmError(cause.code === 'locked' ? 'locked' : 'not_ours', message, {
        cause,
        ...(expected === undefined ? {} : { expected }),
        ...(found === undefined ? {} : { found }),
      });
    }
    const { code, path } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' && path === dir)
      throw new VmmError('not_found', `There is no machine in ${dir}`, { cause });
    throw cause;
  }
}

/** @throws VmmError `not_ours` unless the folder is this user's alone to change, `not_found` when it is gone */
export async function requireMachineFolder(dir: string): Promise<void> {
  await asVmmErrors(dir, async () => requireOwnDirectory(dir));
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

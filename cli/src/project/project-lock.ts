import { statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { FilesError, makeOwnDirectory, withLock } from '@dstack-cloud/files';
import { type Context, expandHome } from '../context.ts';
import { CliError } from '../errors.ts';
import { findProject } from './app-config.ts';

const WAIT_MS = 30_000;
const SAY_AFTER_MS = 1_000;
/** A full or read-only disk must not keep a machine from being stopped. */
const FULL = ['ENOSPC', 'EDQUOT', 'EROFS'];

/**
 * Runs a command while no other one changes the same project. A second one waits for half a minute, and says so; the lock
 * of a killed command is free at once. The locks lie in a folder of ours: a project's own may be on anybody's disk.
 *
 * @throws CliError `busy`
 */
export async function withProjectLock<T>(context: Context, body: () => Promise<T>): Promise<T> {
  const directory = await findProject(context.directory);
  const folder = directory === undefined ? undefined : lockFolder(context);
  if (directory === undefined || folder === undefined) return await body();
  const { dev, ino } = statSync(directory, { bigint: true });
  const what = `The project in ${directory}`;
  const options = { waitMs: WAIT_MS, what, signal: context.signal, evenWhenFull: true };
  const patience = setTimeout(
    () =>
      context.info(`Waiting for another dstack-cloud command in ${directory}, ${WAIT_MS / 1000} s at most`),
    SAY_AFTER_MS,
  );
  let entered = false;
  try {
    return await withLock(folder, `project-${dev}-${ino}`, options, async () => {
      entered = true;
      clearTimeout(patience);
      return await body();
    });
  } catch (error) {
    if (entered || !(error instanceof FilesError) || error.code !== 'locked') throw error;
    throw new CliError('busy', error.message, {
      cause: error,
      hint: 'Wait until the other command has ended, or end it with Ctrl-C there: it leaves nothing half done',
    });
  } finally {
    clearTimeout(patience);
  }
}

/** Below the XDG data folder, as are local machines; undefined on a disk that takes no new folder. */
export function lockFolder(context: Context): string | undefined {
  const xdg = context.env['XDG_DATA_HOME'];
  const base = xdg !== undefined && isAbsolute(xdg) ? xdg : expandHome(context, '~/.local/share');
  const folder = join(base, 'dstack-cloud/locks');
  try {
    makeOwnDirectory(folder);
  } catch (error) {
    if (FULL.includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw new CliError('busy', `The folder of locks ${folder} cannot be used`, {
      cause: error,
      hint: 'Make it a folder of yours with mode 0700, or set XDG_DATA_HOME',
    });
  }
  return folder;
}

import { join, resolve } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import {
  formatLock,
  lockChanges,
  makeLock,
  OsImageError,
  readLock,
  recipeFolder,
} from '@dstack-cloud/os-image';
import type { Context } from '../context.ts';
import { imageCache } from '../image/places.ts';

/** `image lock`: shows what newer packages there are; with --update, writes them to the lock file. */
export async function run(
  context: Context,
  _args: readonly string[],
  options: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const named = options['lock'];
  const path =
    named === undefined
      ? join(recipeFolder(context.env), 'lock.json')
      : resolve(context.directory, String(named));
  const before = await readLock(path).catch((error: unknown) => {
    if (
      error instanceof OsImageError &&
      (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT'
    )
      return undefined;
    throw error;
  });
  const after = await makeLock(join(imageCache(context), 'apt'));
  const changes = lockChanges(before, after);
  for (const { name, before: old, after: next, rebuilt } of changes)
    context.print(
      `${name}: ${old ?? '(new)'} -> ${next ?? '(gone)'}${rebuilt ? ' (same version, other bytes)' : ''}`,
    );
  if (changes.length === 0) context.info('The lock names the newest packages');
  const written = options['update'] === true && changes.length > 0;
  if (written) await writeFileAtomic(path, formatLock(after), { mode: 0o644 });
  else if (changes.length > 0) context.info('Nothing is written; --update writes the lock file');
  context.result({
    lock: path,
    written,
    changes: changes.map((one) => ({ ...one, before: one.before ?? null, after: one.after ?? null })),
  });
  return undefined;
}

import { rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { removeAbandoned, temporaryName } from '@dstack-cloud/files';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { findImage } from '../image/find-image.ts';

/** `image rm`: removes an image folder; only what is an image is removed. */
export async function run(context: Context, args: readonly string[]): Promise<undefined> {
  const name = args[0]!;
  if (name.includes('/'))
    throw new CliError('bad_argument', 'image rm takes the name of an image in the search paths, not a path');
  const { folder } = await findImage(context, name);
  // First out of the way, so that a removal that is interrupted leaves no half of an image under its name.
  const aside = join(dirname(folder), temporaryName(name));
  // What removals and builds that were killed left there.
  removeAbandoned(dirname(folder));
  await rename(folder, aside);
  await rm(aside, { recursive: true, force: true });
  context.info(`Removed ${name}`);
  context.result({ removed: name });
  return undefined;
}

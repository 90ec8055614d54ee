import { realpath, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { removeAbandoned, temporaryName } from '@dstack-cloud/files';
import { listCvms } from '@dstack-cloud/vmm';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { findImage } from '../image/find-image.ts';
import { runPath } from '../platforms/local/paths.ts';

/** `image rm`: removes an image folder; only what is an image is removed, and only when no machine of this host boots it. */
export async function run(context: Context, args: readonly string[]): Promise<undefined> {
  const name = args[0]!;
  if (name.includes('/'))
    throw new CliError('bad_argument', 'image rm takes the name of an image in the search paths, not a path');
  const { folder } = await findImage(context, name);
  await requireUnused(context, name, folder);
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

/** A machine whose files cannot be read may boot it too. @throws CliError `refused` */
async function requireUnused(context: Context, name: string, folder: string): Promise<void> {
  const wanted = await realpath(folder);
  const machines = await listCvms(runPath(context, await loadGlobalConfig(context)));
  const users: string[] = [];
  for (const { name: machine, dir, manifest } of machines) {
    if (manifest === undefined) users.push(dir);
    else if (manifest.driver === 'vm' && (await isAt(manifest.vm.image_folder, wanted))) users.push(machine);
  }
  if (users.length === 0) return;
  throw new CliError('refused', `Machines boot the image ${name}: ${users.join(', ')}`, {
    hint: 'Remove them first with dstack-cloud remove, or deploy them with another os_image',
  });
}

async function isAt(path: string, wanted: string): Promise<boolean> {
  try {
    return (await realpath(path)) === wanted;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

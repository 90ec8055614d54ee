import { lstat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type OsImageFolder, readImage } from '@dstack-cloud/os-image';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { imageFolders, imagePath } from './places.ts';

/** The image of that name in the search paths, or at that path when it has a slash. @throws CliError `file_missing` */
export async function findImage(context: Context, name: string): Promise<OsImageFolder> {
  if (name.includes('/')) return await readImage(resolve(context.directory, name));
  const folders = imageFolders(context, await loadGlobalConfig(context));
  for (const folder of folders) {
    const path = imagePath(folder, name);
    if (await exists(path)) return await readImage(path);
  }
  throw new CliError('file_missing', `There is no OS image ${name}`, {
    expected: `a folder ${name} in ${folders.join(' or ')}`,
    hint: 'See the images that are there with dstack-cloud image list, or build one with dstack-cloud image build',
    exitCode: EXIT.notFound,
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

import { join } from 'node:path';
import { imageNames, OsImageError, readImage } from '@dstack-cloud/os-image';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { imageFolders } from '../image/places.ts';

/** `image list`: the OS images in the search paths; damaged ones are shown as such. */
export async function run(context: Context): Promise<undefined> {
  const rows: {
    name: string;
    folder: string;
    flavour: string | null;
    os_image_hash: string | null;
    error: string | null;
  }[] = [];
  for (const folder of imageFolders(context, await loadGlobalConfig(context)))
    for (const name of await imageNames(folder)) {
      const path = join(folder, name);
      try {
        const { isDev, digest } = await readImage(path);
        rows.push({
          name,
          folder: path,
          flavour: isDev ? 'dev' : 'prod',
          os_image_hash: digest,
          error: null,
        });
      } catch (error) {
        if (!(error instanceof OsImageError)) throw error;
        rows.push({ name, folder: path, flavour: null, os_image_hash: null, error: error.message });
      }
    }
  context.result(rows);
  if (rows.length === 0) context.info('No images; build one with dstack-cloud image build');
  for (const { name, flavour, os_image_hash, error } of rows)
    context.print(`${name.padEnd(32)}  ${(flavour ?? 'damaged').padEnd(7)}  ${os_image_hash ?? error ?? ''}`);
  return undefined;
}

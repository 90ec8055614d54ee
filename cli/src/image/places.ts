import { isAbsolute, join, resolve } from 'node:path';
import type { GlobalConfig } from '../config/global-config.ts';
import { type Context, expandHome } from '../context.ts';
import { CliError } from '../errors.ts';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Folder that images are built into: the first of `image_search_paths`, else one in the user's data folder. */
export function imageFolder(context: Context, config: GlobalConfig): string {
  const first = config.image_search_paths[0] ?? '~/.local/share/dstack-cloud/images';
  return resolve(context.directory, expandHome(context, first));
}

/** Every folder that may hold images. */
export function imageFolders(context: Context, config: GlobalConfig): string[] {
  const all = config.image_search_paths.map((path) => resolve(context.directory, expandHome(context, path)));
  return [...new Set([imageFolder(context, config), ...all])];
}

/** Folder of an image by its name below `folder`. @throws CliError `bad_argument` */
export function imagePath(folder: string, name: string): string {
  if (!NAME.test(name) || name.includes('..'))
    throw new CliError('bad_argument', `${JSON.stringify(name)} cannot be the name of an image`, {
      expected: 'up to 64 letters, digits, dots, dashes and underscores, a letter or digit first',
    });
  return join(folder, name);
}

/** Downloads that builds share: `dstack-cloud/image` below the XDG cache folder. */
export function imageCache(context: Context): string {
  const xdg = context.env['XDG_CACHE_HOME'];
  const base = xdg !== undefined && isAbsolute(xdg) ? xdg : expandHome(context, '~/.cache');
  return join(base, 'dstack-cloud/image');
}

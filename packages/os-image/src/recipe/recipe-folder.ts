import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OsImageError } from '../errors.ts';

/**
 * The folder with what an image is built from besides the code: `lock.json`, `files`, `stub`. `DSTACK_IMAGE_RECIPE`
 * names another one.
 *
 * @throws OsImageError `bad-recipe` when this program was installed without it
 */
export function recipeFolder(env: NodeJS.ProcessEnv = process.env): string {
  const named = env['DSTACK_IMAGE_RECIPE'];
  if (named !== undefined && named !== '') return resolve(named);
  const here = dirname(fileURLToPath(import.meta.url));
  // From the sources, from a bundle in dist/bin, or from a chunk of it.
  const places = ['../..', '../../packages/os-image', '../../../packages/os-image'].map((one) =>
    join(here, one),
  );
  const found = places.find(
    (place) => existsSync(join(place, 'lock.json')) && existsSync(join(place, 'stub')),
  );
  if (found !== undefined) return resolve(found);
  throw new OsImageError(
    'bad-recipe',
    'The recipe of the image is not beside this program; build images in a checkout, or name it in DSTACK_IMAGE_RECIPE',
  );
}

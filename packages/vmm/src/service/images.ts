import { join } from 'node:path';
import { imageNames, OsImageError, type OsImageFolder, readImage } from '@dstack-cloud/os-image';
import { VmmError } from '../errors.ts';
import { isImageName } from '../manifest.ts';

/** The newest part of a name such as `dstack-dev-0.6.0`. */
const VERSION = /-(\d+\.\d+\.\d+)$/;

/** An image as it is listed. */
export interface ListedImage {
  readonly name: string;
  readonly version: string;
  readonly isDev: boolean;
  /** Text of its metadata.json. */
  readonly description: string;
}

/** The OS images in a folder. */
export class Images {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Those that can be read; others are not offered. */
  async list(): Promise<ListedImage[]> {
    const images: ListedImage[] = [];
    for (const name of (await imageNames(this.#path)).filter(isImageName)) {
      try {
        const { version, isDev, metadata } = await readImage(join(this.#path, name));
        images.push({ name, version: versionOf(name, version), isDev, description: metadata });
      } catch (error) {
        // Half copied, or of another kind.
        if (!(error instanceof OsImageError)) throw error;
      }
    }
    return images;
  }

  /** @throws VmmError `not_found`, `bad_image` */
  async find(name: string): Promise<OsImageFolder> {
    const names = await imageNames(this.#path);
    if (!isImageName(name) || !names.includes(name))
      throw new VmmError('not_found', `There is no OS image ${JSON.stringify(name.slice(0, 64))}`, {
        expected: `one in ${this.#path}: ${names.join(', ') || 'none yet'}`,
        found: name.slice(0, 64),
      });
    try {
      const image = await readImage(join(this.#path, name));
      return { ...image, version: versionOf(name, image.version) };
    } catch (cause) {
      if (!(cause instanceof OsImageError)) throw cause;
      throw new VmmError('bad_image', cause.message, { cause });
    }
  }
}

function versionOf(name: string, version: string): string {
  return version || (VERSION.exec(name)?.[1] ?? '');
}

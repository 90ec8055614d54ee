import { readlink, realpath, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { temporaryName } from '@dstack-cloud/files';
import { imageNames, OsImageError, type OsImageFolder, readImage } from '@dstack-cloud/os-image';
import { VmmError } from '../errors.ts';
import { isImageName } from '../manifest/manifest.ts';

/** The newest part of a name such as `dstack-dev-0.6.0`. */
const VERSION = /-(\d+\.\d+\.\d+)$/;

/** As many as Linux follows. */
const MAX_LINKS = 40;

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

  /**
   * Deletes an image of this host for good; of a link only the link. Whatever else may be in the folder of images stays.
   *
   * @param machines all of this host, with the image that each boots; undefined when that cannot be read, so that it may
   * be any
   * @throws VmmError `not_found`, `running`
   */
  async remove(
    name: string,
    machines: readonly { readonly name: string; readonly image: string | undefined }[],
  ): Promise<void> {
    await this.#requireName(name);
    const unknown = machines.filter(({ image }) => image === undefined);
    if (unknown.length > 0)
      throw new VmmError(
        'running',
        `Which image ${listed(unknown)} boots cannot be read, so it may be ${name}: repair its vm-manifest.json, or remove it`,
        { expected: 'machines whose image is known', found: listed(unknown) },
      );
    const users: { readonly name: string }[] = [];
    for (const one of machines)
      if (one.image !== undefined && (await this.#leadsThrough(one.image, name))) users.push(one);
    if (users.length > 0)
      throw new VmmError(
        'running',
        `Machines boot the image ${name}: remove them first, or give them another image`,
        {
          expected: 'an image of no machine',
          found: listed(users),
        },
      );
    const path = join(this.#path, name);
    const aside = join(this.#path, temporaryName(name));
    // Under another name first: half of an image must not look like one.
    await rename(path, aside);
    await rm(aside, { recursive: true });
  }

  /** @throws VmmError `not_found`, `bad_image` */
  async find(name: string): Promise<OsImageFolder> {
    await this.#requireName(name);
    try {
      const image = await readImage(join(this.#path, name));
      return { ...image, version: versionOf(name, image.version) };
    } catch (cause) {
      if (!(cause instanceof OsImageError)) throw cause;
      throw new VmmError('bad_image', cause.message, { cause });
    }
  }

  /** Whether an image is this one, or a link that leads to or through it. */
  async #leadsThrough(image: string, name: string): Promise<boolean> {
    const wanted = join(this.#path, name);
    let path = join(this.#path, image);
    for (let links = 0; links <= MAX_LINKS; links++) {
      if (path === wanted) return true;
      const target = await readlink(path).catch(ifNoLink);
      if (target === undefined) break;
      path = resolve(dirname(path), target);
    }
    // The same folder by another way; a link is no folder.
    if ((await readlink(wanted).catch(ifNoLink)) !== undefined) return false;
    return (await realpath(path).catch(ifNoLink)) === (await realpath(wanted));
  }

  async #requireName(name: string): Promise<void> {
    const names = await imageNames(this.#path);
    if (isImageName(name) && names.includes(name)) return;
    throw new VmmError('not_found', `There is no OS image ${JSON.stringify(name.slice(0, 64))}`, {
      expected: `one in ${this.#path}: ${names.join(', ') || 'none yet'}`,
      found: name.slice(0, 64),
    });
  }
}

function listed(machines: readonly { readonly name: string }[]): string {
  const more = machines.length > 8 ? ` and ${machines.length - 8} more` : '';
  return `${machines
    .slice(0, 8)
    .map(({ name }) => name)
    .join(', ')}${more}`;
}

/** Undefined for what is no link, or does not exist. */
function ifNoLink(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'EINVAL' && error.code !== 'ENOENT' && error.code !== 'ELOOP') throw error;
}

function versionOf(name: string, version: string): string {
  return version || (VERSION.exec(name)?.[1] ?? '');
}

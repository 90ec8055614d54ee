import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pid } from 'node:process';
import type { TdxImageParts } from '@dstack-cloud/attestation';
import { FilesError, makeOwnDirectory, syncDirectory } from '@dstack-cloud/files';
import { KmsError } from '../errors.ts';
import { checkImageDirectory, isImageDirectory, readImageParts } from './image-directory.ts';
import { download, type Fetch } from './resumable-download.ts';
import { unpack } from './unpack.ts';

export type ImageCacheOptions = {
  /** Has `images/<hash>` and, while they are made, `images/tmp/<random>`. */
  readonly directory: string;
  /** With `{OS_IMAGE_HASH}`. */
  readonly urlTemplate: string;
  /** For download, unpacking and checks together. */
  readonly timeoutMs: number;
  readonly maxDownloadBytes: number;
  readonly maxUnpackedBytes: number;
  readonly fetch: Fetch;
  /** Another process downloads, so that no two do the same: returns when the image is in the directory. */
  readonly obtain?: (hash: string) => Promise<void>;
  /** Told where each wanted image came from. */
  readonly onLookup: (result: 'hit' | 'miss') => void;
  readonly onDamaged: (hash: string, error: unknown) => void;
};

const PLACEHOLDER = '{OS_IMAGE_HASH}';

/**
 * OS images by their hash. What `images/<hash>` holds was checked before it got that name, and is checked again before
 * it is read: a crash, a full disk or a clearing at the same time leaves nothing that counts as an image.
 */
export class ImageCache {
  readonly #options: ImageCacheOptions;
  readonly #images: string;
  readonly #temporary: string;
  #swept: Promise<void> | undefined;

  constructor(options: ImageCacheOptions) {
    this.#options = options;
    this.#images = join(options.directory, 'images');
    this.#temporary = join(this.#images, 'tmp');
  }

  /**
   * What a TD measures of the image, from the cache or after a download.
   * @param hash os_image_hash in lower-case hex
   * @throws KmsError `image-unavailable`, `image-invalid`
   */
  async parts(hash: string, signal: AbortSignal): Promise<TdxImageParts> {
    const directory = join(this.#images, hash);
    if (await isImageDirectory(directory)) {
      try {
        await checkImageDirectory(directory, hash);
        const parts = await readImageParts(directory);
        this.#options.onLookup('hit');
        return parts;
      } catch (error) {
        this.#options.onDamaged(hash, error);
      }
    }
    const { obtain } = this.#options;
    if (obtain !== undefined) {
      await obtain(hash);
      // It may have been damaged or cleared since; the next request then starts over.
      await checkImageDirectory(directory, hash);
      return readImageParts(directory);
    }
    this.#options.onLookup('miss');
    return this.#download(hash, AbortSignal.any([signal, AbortSignal.timeout(this.#options.timeoutMs)]));
  }

  async #download(hash: string, signal: AbortSignal): Promise<TdxImageParts> {
    const { urlTemplate, fetch, maxDownloadBytes, maxUnpackedBytes } = this.#options;
    const work = join(this.#temporary, `${pid}-${randomBytes(8).toString('hex')}`);
    try {
      // Through a link, or in another user's folder, nothing is written or removed.
      for (const folder of [this.#images, this.#temporary]) makeOwnDirectory(folder);
      this.#swept ??= sweep(this.#temporary);
      await this.#swept;
      await mkdir(work, { recursive: true, mode: 0o700 });
      const archive = download(urlTemplate.replaceAll(PLACEHOLDER, hash), {
        fetch,
        maxBytes: maxDownloadBytes,
        signal,
      });
      await unpack(archive, work, { maxBytes: maxUnpackedBytes, signal });
      await checkImageDirectory(work, hash);
      const parts = await readImageParts(work);
      await syncDirectory(work);
      signal.throwIfAborted();
      await this.#publish(work, join(this.#images, hash));
      return parts;
    } catch (error) {
      throw failure(error, signal);
    } finally {
      await rm(work, { recursive: true, force: true }).catch(() => undefined);
    }
  }

  /** What lies under the name already is damaged: it is moved away first, for a directory replaces only an empty one. */
  async #publish(work: string, target: string): Promise<void> {
    const old = `${work}.old`;
    try {
      await rename(target, old).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      });
      await rename(work, target);
      await syncDirectory(this.#images);
    } finally {
      await rm(old, { recursive: true, force: true });
    }
  }
}

/** Names of what a download makes, with the process that made it. */
const WORK = /^(\d{1,9})-/;

/** Removes what processes that have ended left behind, and nothing that no download made. */
async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const owner = Number(WORK.exec(name)?.[1] ?? Number.NaN);
    if (owner === pid || (Number.isInteger(owner) && !isRunning(owner))) {
      await rm(join(directory, name), { recursive: true, force: true }).catch(() => undefined);
    }
  }
}

function isRunning(process: number): boolean {
  try {
    return globalThis.process.kill(process, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function failure(error: unknown, signal: AbortSignal): KmsError {
  if (signal.aborted) return new KmsError('image-unavailable', 'Download image timeout', { cause: error });
  if (error instanceof KmsError) return error;
  if (error instanceof FilesError)
    return new KmsError('image-unavailable', `Failed to store image: ${error.message}`, { cause: error });
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  return new KmsError('image-unavailable', `Failed to store image: ${code}`, { cause: error });
}

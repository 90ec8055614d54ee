import { randomBytes } from 'node:crypto';
import { access, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AttestationError } from '@dstack-cloud/attestation';
import { deadlineOf } from '../deadline.ts';
import { downloadArchive } from './download-archive.ts';
import { imageName, unpackImage } from './unpack-image.ts';

/** How long a failed image is not asked for again. */
const BACK_OFF_MS = 30_000;
/** A request waits so long for a download; the download goes on, and the client's next attempt finds it. */
const WAIT_MS = 45_000;
const MAX_FAILURES = 256;

export type ImageStoreOptions = {
  /** `core.image.cache_dir`. */
  readonly directory: string;
  /** With `{OS_IMAGE_HASH}` in it. */
  readonly url: string;
  readonly timeoutSeconds: number;
  readonly onHit?: () => void;
  readonly onMiss?: () => void;
};

/** OS images by their hash: unpacked, checked, kept. */
export type ImageStore = {
  /**
   * Directory of an image, downloaded when it is not there yet; one download at a time for each image.
   * @param hash 32 bytes
   * @throws AttestationError `collateral-unavailable`, `image`, `too-large`
   */
  directoryOf(hash: Uint8Array): Promise<string>;
};

export function imageStore(options: ImageStoreOptions): ImageStore {
  const images = join(options.directory, 'images');
  const running = new Map<string, Promise<string>>();
  const failures = new Map<string, { at: number; error: AttestationError }>();

  async function obtain(name: string): Promise<string> {
    const target = join(images, name);
    const temporary = join(images, 'tmp');
    await mkdir(temporary, { recursive: true, mode: 0o755 });
    const archive = join(temporary, `${name}.tar.gz.part`);
    const unpacked = join(temporary, `${name}.${randomBytes(6).toString('hex')}`);
    const signal = AbortSignal.timeout(options.timeoutSeconds * 1000);
    await downloadArchive(options.url.replaceAll('{OS_IMAGE_HASH}', name), archive, signal);
    try {
      await mkdir(unpacked, { mode: 0o755 });
      await unpackImage(archive, unpacked, name);
      await rm(target, { recursive: true, force: true });
      await rename(unpacked, target);
      await syncDirectory(images);
      return target;
    } finally {
      await rm(unpacked, { recursive: true, force: true });
      await rm(archive, { force: true });
    }
  }

  function start(name: string): Promise<string> {
    const known = running.get(name);
    if (known !== undefined) return known;
    const failed = failures.get(name);
    if (failed !== undefined && performance.now() - failed.at < BACK_OFF_MS)
      return Promise.reject(failed.error);
    const work = obtain(name)
      .catch((cause: unknown) => {
        const error =
          cause instanceof AttestationError
            ? cause
            : new AttestationError('collateral-unavailable', 'The OS image cannot be stored', { cause });
        failures.set(name, { at: performance.now(), error });
        if (failures.size > MAX_FAILURES) failures.delete(failures.keys().next().value!);
        throw error;
      })
      .finally(() => running.delete(name));
    work.catch(() => undefined);
    running.set(name, work);
    return work;
  }

  return {
    async directoryOf(hash) {
      const name = imageName(hash);
      const target = join(images, name);
      if (await exists(join(target, 'metadata.json'))) {
        options.onHit?.();
        return target;
      }
      options.onMiss?.();
      return deadlineOf(start(name), WAIT_MS).catch((error: unknown) => {
        if (error instanceof AttestationError) throw error;
        throw new AttestationError(
          'collateral-unavailable',
          'The OS image is still being downloaded; try again',
        );
      });
    },
  };
}

/** The members of an image's `metadata.json` that are measured. @throws AttestationError `image` */
export async function readImageMetadata(
  directory: string,
): Promise<{ cmdline: string; kernel: string; initrd: string; bios: string }> {
  try {
    const parsed = JSON.parse(await readFile(join(directory, 'metadata.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    const [cmdline, kernel, initrd, bios] = ['cmdline', 'kernel', 'initrd', 'bios'].map(
      (name) => parsed[name],
    );
    const files = [kernel, initrd, bios];
    if (typeof cmdline === 'string' && files.every((file) => /^[A-Za-z0-9._+-]{1,128}$/.test(String(file)))) {
      return { cmdline, kernel: String(kernel), initrd: String(initrd), bios: String(bios) };
    }
  } catch (cause) {
    throw new AttestationError('image', 'metadata.json of the OS image cannot be read', { cause });
  }
  throw new AttestationError('image', 'metadata.json of the OS image lacks cmdline, kernel, initrd or bios');
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

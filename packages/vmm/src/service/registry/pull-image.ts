import { mkdir, rename, rm, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isThere, removeAbandoned, syncDirectory, temporaryName } from '@dstack-cloud/files';
import { VmmError } from '../../errors.ts';
import { vmImage } from '../../vm/vm-image.ts';
import type { RegistryClient, RegistryLayer } from './registry-client.ts';
import { badRegistryImage } from './registry-error.ts';
import { requireKnownLayer, type Unpacked, unpackLayer } from './unpack-layer.ts';

/** Most of an image, compressed and unpacked, bytes. */
const MAX_BYTES = 16 * 2 ** 30;

interface PullOptions {
  readonly tag: string;
  readonly imagePath: string;
  readonly signal: AbortSignal;
  readonly maxBytes?: number;
  /** Told how many of how many bytes have arrived. */
  readonly progress: (received: number, size: number) => void;
}

/**
 * Fetches the image with a tag into a folder of that name. It is written aside and checked file by file; it has its name
 * only when it is whole, and a killed service leaves nothing that looks like an image.
 *
 * @throws VmmError `already_exists`, `bad_image`, `no_space`, `registry_failed`
 */
export async function pullImage(client: RegistryClient, options: PullOptions): Promise<void> {
  const { tag, imagePath, signal } = options;
  const target = join(imagePath, tag);
  const work = join(imagePath, temporaryName(tag));
  requireAbsent(target, tag);
  try {
    await mkdir(imagePath, { recursive: true });
    // What a service that was killed left.
    removeAbandoned(imagePath);
    const layers = await client.layers(tag, signal);
    await checkLayers(layers, options);
    await mkdir(work, { mode: 0o755 });
    await fetchLayers(client, layers, work, options);
    await syncDirectory(work);
    await requireImage(work, tag);
    signal.throwIfAborted();
    requireAbsent(target, tag);
    await rename(work, target);
    await syncDirectory(imagePath);
  } catch (error) {
    throw asPullError(error, tag);
  } finally {
    await rm(work, { recursive: true, force: true }).catch(() => undefined);
  }
}

function requireAbsent(target: string, tag: string): void {
  if (isThere(target))
    throw new VmmError('already_exists', `There is an image ${tag} already: delete it to pull it again`, {
      expected: 'no image of this name',
      found: target,
    });
}

async function checkLayers(
  layers: readonly RegistryLayer[],
  { imagePath, maxBytes = MAX_BYTES }: PullOptions,
): Promise<void> {
  for (const { mediaType } of layers) requireKnownLayer(mediaType);
  const size = sizeOf(layers);
  if (size > maxBytes)
    throw badRegistryImage('it is too large', { expected: `at most ${maxBytes} bytes`, found: String(size) });
  const { bavail, bsize } = await statfs(imagePath);
  if (size > bavail * bsize)
    throw new VmmError(
      'no_space',
      `The image has ${size} bytes, and ${dirname(join(imagePath, 'x'))} has no room`,
      {
        expected: `${size} bytes`,
        found: `${bavail * bsize} bytes`,
      },
    );
}

async function fetchLayers(
  client: RegistryClient,
  layers: readonly RegistryLayer[],
  work: string,
  { signal, maxBytes = MAX_BYTES, progress }: PullOptions,
): Promise<void> {
  const so: Unpacked = { bytes: 0, files: 0 };
  const size = sizeOf(layers);
  let received = 0;
  for (const layer of layers) {
    const ended = new AbortController();
    const blob = client.blob(layer, AbortSignal.any([signal, ended.signal]));
    let isWhole = false;
    const counted = (async function* () {
      for await (const chunk of blob) {
        received += chunk.length;
        progress(received, size);
        yield chunk;
      }
      isWhole = true;
    })();
    try {
      await unpackLayer(counted, work, { mediaType: layer.mediaType, maxBytes, so, signal });
      // The digest is of all of it, so what was not read was not checked.
      if (!isWhole)
        throw badRegistryImage('failed to extract it: a layer goes on after the end of its archive');
    } finally {
      ended.abort();
      await counted.return(undefined).catch(() => undefined);
    }
  }
}

/** What an image that is made here has to be, too. */
async function requireImage(work: string, tag: string): Promise<void> {
  try {
    await vmImage(work, 'direct');
  } catch (error) {
    if (!(error instanceof VmmError)) throw error;
    const { expected, found } = error;
    throw badRegistryImage(error.message.replaceAll(work, tag), {
      cause: error,
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
    });
  }
}

function sizeOf(layers: readonly RegistryLayer[]): number {
  return layers.reduce((sum, { size }) => sum + size, 0);
}

function asPullError(error: unknown, tag: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new VmmError('no_space', `There is no room for the image ${tag}: nothing of it was kept`, {
      cause: error,
    });
  if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR')
    return new VmmError('already_exists', `There is an image ${tag} already`, { cause: error });
  return error;
}

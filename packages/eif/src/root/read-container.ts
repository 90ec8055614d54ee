import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import * as zlib from 'node:zlib';
import { removeAbandoned, temporaryName } from '@dstack-cloud/files';
import { type ByteSource, chunks, type FileSource, openSource } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import type { Architecture } from '../format/header.ts';
import { applyLayer } from './apply-layer.ts';
import { type ContainerImage, findImage } from './container-image.ts';
import { openImageFiles } from './image-files.ts';
import { RootTree } from './root-tree.ts';

/** Most of a layer, unpacked: a small file can unpack to any size. */
const MAX_LAYER = 64 * 2 ** 30;

export interface ContainerRoot {
  readonly image: ContainerImage;
  readonly tree: RootTree;
  /** The contents lie in files that are open until then. */
  close(): Promise<void>;
}

export interface ReadContainerOptions {
  readonly architecture: Architecture;
  /** Name with tag, for an archive of several. */
  readonly name?: string | undefined;
  /** Folder for layers that are unpacked, removed at the end. */
  readonly scratch: string;
  readonly warn: (line: string) => void;
}

/**
 * Reads the root of a container image. Each layer is held to the hash in the configuration, so that the root is the one that
 * the id of the image names.
 */
export async function readContainer(path: string, options: ReadContainerOptions): Promise<ContainerRoot> {
  const files = await openImageFiles(path);
  removeAbandoned(options.scratch);
  const scratch = join(options.scratch, temporaryName('layers'));
  const open: FileSource[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(open.map((one) => one.close()));
    await files.close();
    await rm(scratch, { recursive: true, force: true });
  };
  try {
    const image = await findImage(files, options.architecture, options.name);
    const tree = new RootTree();
    for (const [number, { file, diffId }] of image.layers.entries()) {
      const packed = await files.open(file);
      const unpacker = await unpackerOf(packed);
      let layer = packed;
      let found: string;
      if (unpacker === undefined) found = await hashOf(packed);
      else {
        await mkdir(scratch, { recursive: true, mode: 0o700 });
        const target = join(scratch, String(number));
        found = await unpack(packed, unpacker, target);
        const unpacked = await openSource(target);
        open.push(unpacked);
        layer = { ...unpacked, name: file };
      }
      if (found !== diffId)
        throw new EifError(
          'bad-image',
          `Layer ${number} is not the one that the configuration of the image names`,
          {
            expected: `sha256:${diffId}`,
            found: `sha256:${found}`,
            hint: 'The archive is damaged or was changed; save the image again',
          },
        );
      await applyLayer(layer, tree, number, options.warn);
    }
    return { image, tree, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function hashOf(source: ByteSource): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of chunks(source, 0, source.size)) hash.update(piece);
  return hash.digest('hex');
}

/** What undoes the compression of a layer; nothing for a plain one. */
async function unpackerOf(layer: ByteSource): Promise<Transform | undefined> {
  const magic = Buffer.from(await layer.read(0, Math.min(4, layer.size))).toString('hex');
  if (magic.startsWith('1f8b')) return zlib.createGunzip();
  if (magic !== '28b52ffd') return undefined;
  // Node has it from 22.15 on.
  const create = (zlib as { createZstdDecompress?: () => Transform }).createZstdDecompress;
  if (create !== undefined) return create();
  throw new EifError(
    'unsupported',
    'A layer of the image is compressed with zstd, which this Node cannot undo',
    {
      found: `Node ${process.version}`,
      hint: 'Use Node 22.15 or later, or build the image with gzip layers',
    },
  );
}

async function unpack(packed: ByteSource, unpacker: Transform, target: string): Promise<string> {
  const hash = createHash('sha256');
  let size = 0;
  const counted = new Transform({
    transform(piece: Buffer, _encoding, done) {
      size += piece.length;
      hash.update(piece);
      if (size <= MAX_LAYER) return done(null, piece);
      done(new EifError('too-large', `${packed.name} unpacks to more than ${MAX_LAYER} bytes`));
    },
  });
  try {
    await pipeline(
      Readable.from(chunks(packed, 0, packed.size), { objectMode: false }),
      unpacker,
      counted,
      createWriteStream(target, { flags: 'wx', mode: 0o600 }),
    );
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (cause instanceof EifError || (code !== undefined && !code.startsWith('Z_'))) throw cause;
    throw new EifError('bad-image', `${packed.name} cannot be unpacked: it is damaged`, { cause });
  }
  return hash.digest('hex');
}

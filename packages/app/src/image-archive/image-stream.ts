import { utf8 } from '@dstack-cloud/encoding';
import { AppError } from '../errors.ts';
import { piecesOf } from './byte-range.ts';
import type { ImageLayout } from './read-image-archive.ts';

const BLOCK = 512;

/**
 * One image of a layout as an archive that every engine loads: an OCI image layout with the list of files that
 * `docker load` before Docker 25 reads. It has the parts that the image's manifest names, and the names that are asked
 * for: nothing else that the archive holds reaches the engine.
 *
 * @param names full names with tags
 */
export async function* imageStream(
  layout: ImageLayout,
  names: readonly string[],
): AsyncGenerator<Uint8Array> {
  const { mediaType, manifest, config, layers } = layout;
  const parts = new Map([manifest, config, ...layers].map((part) => [part.hex, part]));
  for (const { hex, size, content } of parts.values()) {
    yield header(pathOf(hex), size);
    yield* piecesOf(content, size);
    yield padding(size);
  }
  const descriptor = { mediaType, digest: `sha256:${manifest.hex}`, size: manifest.size };
  const manifests =
    names.length === 0
      ? [descriptor]
      : names.map((name) => ({
          ...descriptor,
          annotations: {
            'io.containerd.image.name': name,
            'org.opencontainers.image.ref.name': name.slice(name.lastIndexOf(':') + 1),
          },
        }));
  const list = [
    { Config: pathOf(config.hex), RepoTags: names, Layers: layers.map(({ hex }) => pathOf(hex)) },
  ];
  yield* text('index.json', {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests,
  });
  yield* text('manifest.json', list);
  yield* text('oci-layout', { imageLayoutVersion: '1.0.0' });
  yield new Uint8Array(2 * BLOCK);
}

function pathOf(hex: string): string {
  return `blobs/sha256/${hex}`;
}

function* text(name: string, value: object): Generator<Uint8Array> {
  const bytes = utf8(JSON.stringify(value));
  yield header(name, bytes.length);
  yield bytes;
  yield padding(bytes.length);
}

/** Header of a regular file (POSIX.1-2017 pax, "ustar Interchange Format"); GNU's binary form for sizes from 8 GiB. */
function header(name: string, size: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  const put = (value: string, at: number) => bytes.set(utf8(value), at);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, '0');
  if (name.length > 100) throw new AppError('image-archive-invalid', `${name} is too long a name`);
  put(name, 0);
  put(`${octal(0o644, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100);
  if (size < 8 ** 11) put(`${octal(size, 11)}\0`, 124);
  else {
    const view = new DataView(bytes.buffer);
    bytes[124] = 0x80;
    view.setBigUint64(128, BigInt(size));
  }
  put(`${octal(0, 11)}\0`, 136);
  put('        0', 148);
  put('ustar\x0000', 257);
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  put(`${octal(sum, 6)}\0 `, 148);
  return bytes;
}

function padding(size: number): Uint8Array {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}

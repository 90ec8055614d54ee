import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { type Pack, pack } from 'tar-stream';

/** A layer as it lies in the archive. */
export interface Layer {
  /** Gzip-compressed tar. */
  readonly file: string;
  /** SHA-256 of the tar before compression, hex. */
  readonly diffId: string;
  readonly comment: string;
}

export interface OciImage {
  readonly layers: readonly Layer[];
  /** Member `config` of the image configuration: user, entry point, labels. */
  readonly config: object;
  /** `NAME:TAG`. */
  readonly reference: string;
  /** Time of everything, seconds. */
  readonly time: number;
}

export interface OciDigests {
  /** SHA-256 of the manifest, hex: what a registry calls the image. */
  readonly manifest: string;
  /** SHA-256 of the configuration, hex: what a container engine calls the image. */
  readonly config: string;
}

/**
 * Writes an image as a tar file that is an OCI image layout (image-spec 1.1, image-layout.md) and has a `manifest.json`
 * beside it, which `docker load` before Docker 25 reads instead.
 */
export async function writeOciArchive(image: OciImage, path: string): Promise<OciDigests> {
  const { layers, reference, time } = image;
  const created = new Date(time * 1000).toISOString().replace('.000', '');
  const [name = '', tag = ''] = reference.split(':');
  const config = blob({
    created,
    architecture: 'amd64',
    os: 'linux',
    config: image.config,
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => `sha256:${diffId}`) },
    history: layers.map(({ comment }) => ({ created, comment })),
  });
  const files = await Promise.all(layers.map(async ({ file }) => await describe(file)));
  const manifest = blob({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: descriptor('application/vnd.oci.image.config.v1+json', config.hex, config.bytes.length),
    layers: files.map(({ hex, size }) =>
      descriptor('application/vnd.oci.image.layer.v1.tar+gzip', hex, size),
    ),
  });
  const index = blob({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [
      {
        ...descriptor('application/vnd.oci.image.manifest.v1+json', manifest.hex, manifest.bytes.length),
        annotations: {
          'io.containerd.image.name': `docker.io/library/${name}:${tag}`,
          'org.opencontainers.image.ref.name': tag,
        },
      },
    ],
  });
  const docker = blob([
    {
      Config: blobPath(config.hex),
      RepoTags: [reference],
      Layers: files.map(({ hex }) => blobPath(hex)),
    },
  ]);
  const archive = pack();
  const written = pipeline(archive, createWriteStream(path, { flags: 'wx' }));
  const write = async (): Promise<void> => {
    const mtime = new Date(time * 1000);
    for (const folder of ['blobs/', 'blobs/sha256/'])
      archive.entry({ name: folder, type: 'directory', mode: 0o755, mtime });
    const bytes = (at: string, content: Uint8Array) =>
      archive.entry({ name: at, mode: 0o644, mtime }, Buffer.from(content));
    for (const one of [config, manifest]) bytes(blobPath(one.hex), one.bytes);
    for (const { hex, size, file } of distinct(files))
      await addFile(archive, { name: blobPath(hex), size, mode: 0o644, mtime }, file);
    bytes('index.json', index.bytes);
    bytes('manifest.json', docker.bytes);
    bytes('oci-layout', utf8('{"imageLayoutVersion":"1.0.0"}'));
    archive.finalize();
  };
  await Promise.all([written, write()]);
  return { manifest: manifest.hex, config: config.hex };
}

interface Blob {
  readonly hex: string;
  readonly bytes: Uint8Array;
}

function blob(value: object): Blob {
  const bytes = utf8(JSON.stringify(value));
  return { bytes, hex: toHex(new Uint8Array(createHash('sha256').update(bytes).digest())) };
}

function descriptor(mediaType: string, hex: string, size: number) {
  return { mediaType, digest: `sha256:${hex}`, size };
}

function blobPath(hex: string): string {
  return `blobs/sha256/${hex}`;
}

async function describe(file: string): Promise<{ file: string; hex: string; size: number }> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return { file, hex: hash.digest('hex'), size: (await stat(file)).size };
}

function distinct<T extends { readonly hex: string }>(files: readonly T[]): T[] {
  return [...new Map(files.map((one) => [one.hex, one])).values()];
}

async function addFile(archive: Pack, header: Parameters<Pack['entry']>[0], file: string): Promise<void> {
  const entry = archive.entry(header);
  await pipeline(createReadStream(file), entry);
}

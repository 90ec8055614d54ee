import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';

export type Layer = readonly LayerMember[];
type LayerMember = Partial<Omit<Header, 'name'>> & { readonly name: string; readonly data?: string };

export interface ArchiveOptions {
  readonly architecture?: string;
  readonly gzip?: boolean;
  /** Spoils the layers after they were compressed. */
  readonly damage?: boolean;
  readonly mtime?: Date;
  readonly diffIds?: readonly string[];
  /** Layers that exist as files. */
  readonly rawLayers?: readonly string[];
  /** Name of a second image in the archive, of the same layers. */
  readonly second?: string;
}

const CONFIG = { Cmd: ['/app'] };
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

interface Parts {
  readonly config: Buffer;
  readonly layers: readonly Buffer[];
}

async function parts(layers: readonly Layer[], config: object, options: ArchiveOptions): Promise<Parts> {
  const plain = [
    ...(await Promise.all(layers.map((layer) => tar(layer, options.mtime)))),
    ...(options.rawLayers ?? []).map((file) => readFileSync(file)),
  ];
  const packed = options.gzip === true ? plain.map((layer) => gzipSync(layer)) : plain;
  if (options.damage === true) for (const layer of packed) layer.fill(0xff, 12, 20);
  return {
    layers: packed,
    config: Buffer.from(
      JSON.stringify({
        architecture: options.architecture ?? 'amd64',
        os: 'linux',
        created: '2026-01-01T00:00:00Z',
        config,
        rootfs: {
          type: 'layers',
          diff_ids: options.diffIds ?? plain.map((layer) => `sha256:${sha256(layer)}`),
        },
      }),
    ),
  };
}

/** What `docker save` writes. */
export async function dockerArchive(
  path: string,
  layers: readonly Layer[],
  config: object = CONFIG,
  options: ArchiveOptions = {},
): Promise<void> {
  const image = await parts(layers, config, options);
  const file = (bytes: Buffer) => `blobs/sha256/${sha256(bytes)}`;
  const entry = {
    Config: file(image.config),
    RepoTags: ['registry.example/app:1.0'],
    Layers: image.layers.map(file),
  };
  const manifest = [
    entry,
    ...(options.second === undefined ? [] : [{ ...entry, RepoTags: [options.second] }]),
  ];
  const members = new Map([image.config, ...image.layers].map((bytes) => [file(bytes), bytes]));
  members.set('manifest.json', Buffer.from(JSON.stringify(manifest)));
  writeFolder(members, (folder) => execFileSync('tar', ['-C', folder, '-cf', path, ...members.keys()]));
}

/** An OCI image layout in a folder. */
export async function ociLayout(
  folder: string,
  layers: readonly Layer[],
  config: object = CONFIG,
  options: ArchiveOptions = {},
): Promise<void> {
  const image = await parts(layers, config, options);
  const files = new Map<string, Buffer>();
  const blob = (mediaType: string, bytes: Buffer) => {
    files.set(`blobs/sha256/${sha256(bytes)}`, bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length };
  };
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      config: blob('application/vnd.oci.image.config.v1+json', image.config),
      layers: image.layers.map((layer) => blob('application/vnd.oci.image.layer.v1.tar', layer)),
    }),
  );
  const described = blob('application/vnd.oci.image.manifest.v1+json', manifest);
  const machine = { architecture: options.architecture ?? 'amd64', os: 'linux' };
  // As buildx writes them: an index for each machine, and one for what it says of the build.
  const inner = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        { ...described, platform: machine },
        { ...described, platform: { architecture: 'unknown', os: 'unknown' } },
      ],
    }),
  );
  const index = { schemaVersion: 2, manifests: [blob('application/vnd.oci.image.index.v1+json', inner)] };
  files.set('index.json', Buffer.from(JSON.stringify(index)));
  files.set('oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
  put(files, folder);
}

function writeFolder(files: ReadonlyMap<string, Buffer>, use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'eif-archive-'));
  try {
    put(files, folder);
    use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function put(files: ReadonlyMap<string, Buffer>, folder: string): void {
  mkdirSync(join(folder, 'blobs/sha256'), { recursive: true });
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
}

async function tar(layer: Layer, mtime: Date = new Date(0)): Promise<Buffer> {
  const archive = pack();
  const whole = buffer(archive);
  for (const { data = '', ...header } of layer) archive.entry({ mtime, mode: 0o644, ...header }, data);
  archive.finalize();
  return await whole;
}

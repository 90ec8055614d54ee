import { createHash } from 'node:crypto';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import { table } from '../table.ts';
import type { ByteRange } from './byte-range.ts';
import { fullName } from './image-reference.ts';
import { type TarFile, tarFiles } from './tar-members.ts';

/** An image in an archive. */
export interface ArchivedImage {
  /** SHA-256 of its configuration, hex: what names every byte of it for an engine. */
  readonly id: string;
  /** SHA-256 of its manifest and of the indexes that lead to it, hex; empty for archives of the older form. */
  readonly digests: readonly string[];
  /** Full names with tags. */
  readonly names: readonly string[];
  /** Where its parts lie; undefined for archives of the older form. */
  readonly layout: ImageLayout | undefined;
}

/** The parts of an image in an OCI image layout. */
export interface ImageLayout {
  readonly mediaType: string;
  readonly manifest: Blob;
  readonly config: Blob;
  readonly layers: readonly Blob[];
}

/** Content by its SHA-256. */
interface Blob {
  readonly hex: string;
  readonly size: number;
  readonly content: ByteRange;
}

/** Largest manifest, index or configuration, bytes. */
const MAX_JSON = 4 * 1024 * 1024;
/** Most images of an archive, manifests of other platforms included. */
const MAX_MANIFESTS = 256;
const MAX_LAYERS = 1024;
const MAX_DEPTH = 4;

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const descriptor = z.object({
  digest,
  platform: z.object({ os: z.string(), architecture: z.string() }).nullish(),
  annotations: table(z.string()).nullish(),
});
const index = z.object({ manifests: z.array(descriptor).max(MAX_MANIFESTS) });
const manifest = z.object({
  mediaType: z.string().max(256).default('application/vnd.oci.image.manifest.v1+json'),
  config: descriptor,
  layers: z.array(descriptor).max(MAX_LAYERS),
});
const indexOrManifest = z.union([index, manifest]);
const dockerManifest = z
  .array(z.object({ Config: z.string(), RepoTags: z.array(z.string()).nullish() }))
  .max(MAX_MANIFESTS);

/**
 * What images a `docker load` archive has: an OCI image layout, or the older form of `docker save`. Every manifest and
 * configuration is checked against the digest that names it. Layers are not read: the engine checks them against the
 * configuration.
 *
 * @throws AppError `image-archive-invalid`
 */
export async function readImageArchive(archive: ByteRange): Promise<readonly ArchivedImage[]> {
  const magic = await archive.read(0, 4);
  if (magic[0] === 0x1f && magic[1] === 0x8b)
    throw invalid('is compressed with gzip; decompress it first (gunzip)');
  if (magic[0] === 0x28 && magic[1] === 0xb5)
    throw invalid('is compressed with zstd; decompress it first (unzstd)');
  const files = new Map<string, TarFile>();
  for await (const file of tarFiles(archive)) files.set(file.name, file);
  return await readImageFiles(files);
}

/** The same for the files of an archive, by their names in it. */
export async function readImageFiles(files: ReadonlyMap<string, TarFile>): Promise<readonly ArchivedImage[]> {
  const images: MutableImage[] = [];
  const layout = files.get('index.json');
  if (layout !== undefined)
    await new LayoutReader(files, images).readIndex(await readJson(layout, index), []);
  const docker = files.get('manifest.json');
  if (docker !== undefined)
    for (const { Config, RepoTags } of await readJson(docker, dockerManifest)) {
      const config = files.get(Config);
      if (config === undefined) throw invalid(`names the configuration ${Config} and does not have it`);
      const id = sha256(await readSmall(config));
      addImage(images, { id, digests: [], names: RepoTags ?? [], layout: undefined });
    }
  if (images.length === 0)
    throw invalid(
      layout === undefined && docker === undefined
        ? 'is no image: it has neither index.json (OCI image layout) nor manifest.json (docker save)'
        : 'has no image for linux/amd64',
    );
  return images;
}

interface MutableImage {
  readonly id: string;
  readonly digests: string[];
  readonly names: string[];
  readonly layout: ImageLayout | undefined;
}

class LayoutReader {
  readonly #files: ReadonlyMap<string, TarFile>;
  readonly #images: MutableImage[];
  #manifests = 0;

  constructor(files: ReadonlyMap<string, TarFile>, images: MutableImage[]) {
    this.#files = files;
    this.#images = images;
  }

  async readIndex(
    { manifests }: z.infer<typeof index>,
    above: readonly string[],
    names: readonly string[] = [],
  ): Promise<void> {
    if (above.length > MAX_DEPTH) throw invalid('has indexes in indexes without end');
    for (const one of manifests) {
      if (++this.#manifests > MAX_MANIFESTS) throw invalid(`has more than ${MAX_MANIFESTS} manifests`);
      const { platform } = one;
      if (platform != null && (platform.os !== 'linux' || platform.architecture !== 'amd64')) continue;
      const bytes = await this.#blob(one.digest, above.length > 0);
      // Other platforms of an index are often left out of an archive.
      if (bytes === undefined) continue;
      const found = parseJson(bytes, indexOrManifest, one.digest);
      const digests = [...above, one.digest.slice('sha256:'.length)];
      const all = [...names, ...namesOf(one.annotations ?? {})];
      if ('manifests' in found) await this.readIndex(found, digests, all);
      else {
        await this.#blob(found.config.digest, false);
        const config = this.#part(found.config.digest);
        const layout = {
          mediaType: found.mediaType,
          manifest: this.#part(one.digest),
          config,
          layers: found.layers.map((layer) => this.#part(layer.digest)),
        };
        addImage(this.#images, { id: config.hex, digests, names: all, layout });
      }
    }
  }

  /** Where content lies that is to have this digest. */
  #part(name: string): Blob {
    const hex = name.slice('sha256:'.length);
    const file = this.#files.get(`blobs/sha256/${hex}`);
    if (file === undefined) throw invalid(`names ${name} and does not have it`);
    return { hex, size: file.size, content: file.content };
  }

  /** Content that has this digest. */
  async #blob(name: string, mayBeMissing: boolean): Promise<Uint8Array | undefined> {
    const hex = name.slice('sha256:'.length);
    const file = this.#files.get(`blobs/sha256/${hex}`);
    if (file === undefined) {
      if (mayBeMissing) return undefined;
      throw invalid(`names ${name} and does not have it`);
    }
    const bytes = await readSmall(file);
    const found = sha256(bytes);
    if (found !== hex)
      throw new AppError('image-archive-invalid', `The archive has other content under ${name}`, {
        expected: name,
        found: `sha256:${found}`,
      });
    return bytes;
  }
}

function addImage(images: MutableImage[], found: ArchivedImage): void {
  let image = images.find((one) => one.id === found.id);
  if (image === undefined) {
    image = { id: found.id, digests: [], names: [], layout: found.layout };
    images.push(image);
  }
  for (const one of found.digests) if (!image.digests.includes(one)) image.digests.push(one);
  for (const name of found.names.map(fullName))
    if (name !== undefined && !image.names.includes(name)) image.names.push(name);
}

/** Names that writers of layouts put beside a manifest: containerd's and Docker's in full; a bare tag is no name. */
function namesOf(annotations: Readonly<Record<string, string>>): string[] {
  const full = annotations['io.containerd.image.name'];
  const name = annotations['org.opencontainers.image.ref.name'];
  return [...(full === undefined ? [] : [full]), ...(name?.includes(':') ? [name] : [])];
}

async function readJson<T>(file: TarFile, schema: z.ZodType<T>): Promise<T> {
  return parseJson(await readSmall(file), schema, file.name);
}

function parseJson<T>(bytes: Uint8Array, schema: z.ZodType<T>, name: string): T {
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new AppError('image-archive-invalid', `${name} of the archive cannot be read`, { cause });
  }
}

async function readSmall({ name, size, content }: TarFile): Promise<Uint8Array> {
  if (size > MAX_JSON) throw invalid(`has ${name} of ${size} bytes; at most ${MAX_JSON} are read`);
  const bytes = await content.read(0, size);
  if (bytes.length !== size) throw invalid('ends early');
  return bytes;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function invalid(what: string): AppError {
  return new AppError('image-archive-invalid', `The archive ${what}`);
}

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { EifError } from '../errors.ts';
import type { Architecture } from '../format/header.ts';
import { type ImageFiles, readJson } from './image-files.ts';

/** Most layers; engines stop at 127. */
const MAX_LAYERS = 256;
const MACHINE: Readonly<Record<Architecture, string>> = { x86_64: 'amd64', aarch64: 'arm64' };

/** A container image, resolved to what its root is made of. */
export interface ContainerImage {
  /** SHA-256 of the configuration, hex: what engines call the image. */
  readonly id: string;
  /** Name without the tag; absent when the image has none. */
  readonly name: string | undefined;
  readonly config: ImageConfig;
  /** Files of the layers, lowest first, each with the SHA-256 that it has uncompressed, hex. */
  readonly layers: readonly { readonly file: string; readonly diffId: string }[];
}

const nullable = <T extends z.ZodType>(type: T) => type.nullish().transform((value) => value ?? undefined);
const words = nullable(z.array(z.string()));
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'expected sha256: and 64 hex digits');

/** The part of an image's configuration that decides here. */
export interface ImageConfig {
  readonly architecture: string;
  readonly os: string;
  readonly config?:
    | {
        readonly Entrypoint?: readonly string[] | undefined;
        readonly Cmd?: readonly string[] | undefined;
        readonly Env?: readonly string[] | undefined;
        readonly User?: string | undefined;
        readonly WorkingDir?: string | undefined;
        readonly Labels?: unknown;
      }
    | undefined;
  readonly rootfs: { readonly type: 'layers'; readonly diff_ids: readonly string[] };
}

const configSchema: z.ZodType<ImageConfig> = z.object({
  architecture: z.string(),
  os: z.string(),
  config: nullable(
    z.object({
      Entrypoint: words,
      Cmd: words,
      Env: words,
      User: nullable(z.string()),
      WorkingDir: nullable(z.string()),
      Labels: nullable(z.unknown()),
    }),
  ),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: z.array(digest).max(MAX_LAYERS) }),
});

const dockerSchema = z
  .array(
    z.object({
      Config: z.string(),
      RepoTags: nullable(z.array(z.string())),
      Layers: z.array(z.string()).max(MAX_LAYERS),
    }),
  )
  .min(1);

const descriptor = z.object({
  mediaType: z.string().optional(),
  digest,
  size: z.number().int().nonnegative(),
  platform: z.object({ architecture: z.string(), os: z.string() }).optional(),
  annotations: z.unknown().optional(),
});
type Descriptor = z.infer<typeof descriptor>;
const indexSchema = z.object({ manifests: z.array(descriptor).max(1000) });
const manifestSchema = z.object({ config: descriptor, layers: z.array(descriptor).max(MAX_LAYERS) });

/**
 * Finds the image in an archive or a layout.
 *
 * @param wanted its name with tag; needed when there are several
 * @throws EifError `bad-image`, `bad-argument`, `unsupported`
 */
export async function findImage(
  files: ImageFiles,
  architecture: Architecture,
  wanted: string | undefined,
): Promise<ContainerImage> {
  const image = (await files.has('manifest.json'))
    ? await dockerImage(files, wanted)
    : await ociImage(files, architecture, wanted);
  const { architecture: machine, os } = image.config;
  if (machine !== MACHINE[architecture] || os !== 'linux')
    throw new EifError('unsupported', 'The image is for another machine than the kernel', {
      expected: `linux/${MACHINE[architecture]}`,
      found: `${os}/${machine}`,
      hint: 'Build the image for this machine, or give the kernel of the other one and --arch',
    });
  return image;
}

async function dockerImage(files: ImageFiles, wanted: string | undefined): Promise<ContainerImage> {
  const list = parse(dockerSchema, (await readJson(files, 'manifest.json')).value, 'manifest.json');
  const tags = list.flatMap(({ RepoTags }) => RepoTags ?? []);
  const found = list.filter(({ RepoTags }) => wanted === undefined || RepoTags?.includes(wanted));
  const { Config, RepoTags, Layers } = requireOne(found, tags, wanted);
  return await withConfig(files, Config, Layers, wanted ?? RepoTags?.[0]);
}

async function ociImage(
  files: ImageFiles,
  architecture: Architecture,
  wanted: string | undefined,
): Promise<ContainerImage> {
  if (!(await files.has('index.json')))
    throw new EifError('bad-image', 'This is neither a docker archive nor an OCI image layout', {
      expected: 'manifest.json or index.json',
      hint: 'Make one with docker save IMAGE -o FILE',
    });
  const index = parse(indexSchema, (await readJson(files, 'index.json')).value, 'index.json');
  const named = index.manifests.map((one) => ({ one, name: referenceOf(one) }));
  const candidates = named.filter(({ name }) => wanted === undefined || name === wanted);
  const names = named.flatMap(({ name }) => name ?? []);
  const { one, name } =
    candidates.length > 1 && wanted === undefined
      ? { one: forMachine(index.manifests, architecture), name: candidates[0]?.name }
      : requireOne(candidates, names, wanted);
  const manifest = await readManifest(files, one, architecture);
  const layers = manifest.layers.map((layer) => blobPath(layer));
  return await withConfig(files, blobPath(manifest.config), layers, wanted ?? name, manifest.config);
}

/** An index below the index has a manifest for each machine. */
async function readManifest(files: ImageFiles, first: Descriptor, architecture: Architecture) {
  const { value } = await readBlob(files, first);
  if (typeof value !== 'object' || value === null || !('manifests' in value))
    return parse(manifestSchema, value, 'The manifest');
  const { manifests } = parse(indexSchema, value, 'The index of machines');
  const second = await readBlob(files, forMachine(manifests, architecture));
  return parse(manifestSchema, second.value, 'The manifest');
}

function forMachine(manifests: readonly Descriptor[], architecture: Architecture): Descriptor {
  const found = manifests.filter(
    ({ platform }) => platform?.os === 'linux' && platform.architecture === MACHINE[architecture],
  );
  if (found.length === 1) return found[0]!;
  const what = found.length === 0 ? 'no image' : 'several images';
  throw new EifError('bad-image', `There is ${what} for linux/${MACHINE[architecture]}`, {
    found: manifests.map(({ platform }) => `${platform?.os}/${platform?.architecture}`).join(', '),
    hint: 'Give the name of one with --image',
  });
}

async function withConfig(
  files: ImageFiles,
  file: string,
  layers: readonly string[],
  reference: string | undefined,
  named?: Descriptor,
): Promise<ContainerImage> {
  const { value, bytes } = named === undefined ? await readJson(files, file) : await readBlob(files, named);
  const config = parse(configSchema, value, 'The configuration of the image');
  const diffIds = config.rootfs.diff_ids;
  if (diffIds.length !== layers.length)
    throw new EifError('bad-image', 'The image has another number of layers than its configuration names', {
      expected: String(diffIds.length),
      found: String(layers.length),
    });
  return {
    id: sha256(bytes),
    name: reference === undefined ? undefined : withoutTag(reference),
    config,
    layers: layers.map((layer, i) => ({ file: layer, diffId: diffIds[i]!.slice('sha256:'.length) })),
  };
}

async function readBlob(files: ImageFiles, { digest: wanted, size }: Descriptor) {
  const name = blobPath({ digest: wanted });
  const read = await readJson(files, name);
  const found = `sha256:${sha256(read.bytes)}`;
  if (found !== wanted || read.bytes.length !== size)
    throw new EifError('bad-image', `${name} of the image is not what its name says`, {
      expected: `${wanted}, ${size} bytes`,
      found: `${found}, ${read.bytes.length} bytes`,
    });
  return read;
}

function blobPath({ digest: value }: Pick<Descriptor, 'digest'>): string {
  return `blobs/sha256/${value.slice('sha256:'.length)}`;
}

/** What tools call a manifest of an index. */
function referenceOf({ annotations }: Descriptor): string | undefined {
  if (typeof annotations !== 'object' || annotations === null) return undefined;
  const named = annotations as Readonly<Record<string, unknown>>;
  const value = named['io.containerd.image.name'] ?? named['org.opencontainers.image.ref.name'];
  return typeof value === 'string' ? value : undefined;
}

function withoutTag(reference: string): string {
  const colon = reference.lastIndexOf(':');
  return colon > reference.lastIndexOf('/') ? reference.slice(0, colon) : reference;
}

function requireOne<T>(found: readonly T[], names: readonly string[], wanted: string | undefined): T {
  if (found.length === 1) return found[0]!;
  const what =
    found.length === 0 ? `There is no image ${JSON.stringify(wanted ?? '')}` : 'There are several images';
  throw new EifError('bad-argument', what, {
    found: names.join(', ') || 'images without names',
    hint: 'Give the name of one with --image',
  });
}

function parse<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new EifError('bad-image', `${what} is not in the form of container images`, {
    found: `${issue?.path.join('.') || 'the whole'}: ${issue?.message}`,
  });
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

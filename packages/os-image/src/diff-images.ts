import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readUki } from '@dstack-cloud/attestation';
import { utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { MAX_KERNEL_IMAGE } from './boot-registers.ts';
import { OsImageError } from './errors.ts';
import { readRegular } from './open-regular.ts';
import { type OsImageFolder, sha256File } from './read-image.ts';

/** What a difference is about. */
export type DifferenceKind = 'package' | 'version' | 'command-line' | 'section' | 'file';

/** One of two images, as far as something that differs goes. */
interface Side {
  /** Version, word or SHA-256. */
  readonly value: string;
  /** Bytes of it in the image, where it has a size. */
  readonly bytes?: number | undefined;
  /** What tells two packages of one version apart. */
  readonly digest?: string | undefined;
}

/** Something that is not the same in two images; a side is undefined where it is not there. */
export interface ImageDifference {
  readonly kind: DifferenceKind;
  readonly name: string;
  readonly before: Side | undefined;
  readonly after: Side | undefined;
  /** What it is, or why it differs, for people; undefined where the name says it. */
  readonly note: string | undefined;
}

/** Largest description of contents that is compared, bytes. */
const MAX_SBOM = 16 * 1024 * 1024;

/** What the sections of a unified kernel image and the files of an image are. */
const NOTES: Readonly<Record<string, string>> = {
  '.text': 'boot stub: code',
  '.data': 'boot stub: data',
  '.osrel': 'name and version',
  '.cmdline': 'command line',
  '.initrd': 'initramfs',
  '.linux': 'kernel',
  'disk.raw': 'whole disk: unified kernel image and root file system',
  'rootfs.img.parted.verity': 'root file system with its hash tree',
  bzImage: 'kernel',
  'initramfs.cpio.gz': 'initramfs',
  'ovmf.fd': 'firmware',
  'metadata.json': 'description for a VMM, with the command line',
  'measurement.gcp.cbor': 'what GCP measures, follows from the other files',
  'measurement.tdx.cbor': 'what TDX measures, follows from the other files',
};

const sbomSchema = z.looseObject({
  components: z
    .array(
      z.looseObject({
        name: z.string(),
        version: z.string().default(''),
        hashes: z.array(z.looseObject({ content: z.string() })).default([]),
        properties: z.array(z.looseObject({ name: z.string(), value: z.string() })).default([]),
      }),
    )
    .max(100_000),
});

/**
 * What differs between two images, from the outside in: the packages that each consists of, the words of the command
 * line, the sections of the kernel image, the files.
 *
 * @throws OsImageError `not-an-image`
 */
export async function diffImages(before: OsImageFolder, after: OsImageFolder): Promise<ImageDifference[]> {
  const differences: ImageDifference[] = [];
  const compare = (
    kind: DifferenceKind,
    one: ReadonlyMap<string, Side>,
    two: ReadonlyMap<string, Side>,
  ): void => {
    for (const name of new Set([...one.keys(), ...two.keys()])) {
      const [old, next] = [one.get(name), two.get(name)];
      if (old?.value === next?.value && old?.bytes === next?.bytes && old?.digest === next?.digest) continue;
      differences.push({ kind, name, before: old, after: next, note: noteOf(kind, name, old, next) });
    }
  };
  compare('package', await packages(before), await packages(after));
  compare('version', single('image', before.version), single('image', after.version));
  compare('command-line', words(before), words(after));
  compare('section', await sections(before), await sections(after));
  compare('file', await files(before), await files(after));
  return differences;
}

function noteOf(
  kind: DifferenceKind,
  name: string,
  before: Side | undefined,
  after: Side | undefined,
): string | undefined {
  if (kind === 'section' || kind === 'file') return NOTES[name];
  if (kind !== 'package' || before === undefined || before.value !== after?.value) return undefined;
  return before.digest === after.digest
    ? 'the same package; another part of it is in the image'
    : 'the same version with other content';
}

function single(name: string, value: string): Map<string, Side> {
  return new Map([[name, { value }]]);
}

/** By names; one that comes several times has its place in the name. */
function named(sides: readonly (readonly [name: string, side: Side])[]): Map<string, Side> {
  const found = new Map<string, Side>();
  for (const [name, side] of sides) {
    let unique = name;
    for (let place = 2; found.has(unique); place++) unique = `${name} (${place})`;
    found.set(unique, side);
  }
  return found;
}

/** Words by the name before their `=`. */
function words({ commandLine }: OsImageFolder): Map<string, Side> {
  const list = commandLine.split(' ').filter(Boolean);
  return named(list.map((word) => [word.split('=')[0] ?? word, { value: word }]));
}

async function sections({ folder }: OsImageFolder): Promise<Map<string, Side>> {
  const path = join(folder, 'uki.efi');
  const file = await readRegular(path, MAX_KERNEL_IMAGE);
  if (file === undefined) return new Map();
  let uki: ReturnType<typeof readUki>;
  try {
    uki = readUki(file);
  } catch (cause) {
    throw new OsImageError(
      'not-an-image',
      `${path} is no whole unified kernel image: ${(cause as Error).message}`,
      { cause },
    );
  }
  return new Map(
    [...uki.sections].map(([name, data]) => {
      const value = createHash('sha256').update(data).digest('hex');
      return [name, { value, bytes: data.length }];
    }),
  );
}

/** Files as they are, whatever the image says of them. */
async function files({ folder, listed }: OsImageFolder): Promise<Map<string, Side>> {
  const found = new Map<string, Side>();
  for (const name of new Set([...listed.keys(), 'rootfs.img.parted.verity', 'disk.raw'])) {
    const path = join(folder, name);
    const value = await sha256File(path);
    if (value !== undefined) found.set(name, { value, bytes: (await stat(path)).size });
  }
  return found;
}

/** Packages by name, as the bill of materials lists them; none where there is no bill. */
async function packages({ folder }: OsImageFolder): Promise<Map<string, Side>> {
  const path = join(folder, 'sbom.cdx.json');
  const size = await stat(path).then(
    (status) => status.size,
    (error: NodeJS.ErrnoException) => absent(error),
  );
  if (size === undefined) return new Map();
  const unusable = (why: string, cause?: unknown) =>
    new OsImageError('not-an-image', `${path} is no list of packages that can be compared: ${why}`, {
      cause,
    });
  if (size > MAX_SBOM) throw unusable(`it has ${size} bytes, more than ${MAX_SBOM}`);
  let components: z.infer<typeof sbomSchema>['components'];
  try {
    ({ components } = sbomSchema.parse(JSON.parse(utf8Text(await readFile(path)))));
  } catch (cause) {
    throw unusable('it is not of the form of CycloneDX', cause);
  }
  const key = (one: (typeof components)[number]) => `${one.name} ${one.version}`;
  const sorted = components.toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
  return named(
    sorted.map(({ name, version, hashes, properties }) => {
      const bytes = properties.find((one) => one.name === 'dstack:size')?.value;
      const counted = bytes === undefined ? undefined : Number(bytes);
      return [name, { value: version, bytes: counted, digest: hashes[0]?.content }];
    }),
  );
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readUki } from '@dstack-cloud/attestation';
import { utf8Text } from '@dstack-cloud/encoding';
import { type OsImageFolder, sha256File } from './read-image.ts';

/** Something that is not the same in two images. */
export interface ImageDifference {
  readonly what: string;
  readonly before: string | undefined;
  readonly after: string | undefined;
}

/** Largest description of contents that is compared, bytes. */
const MAX_SBOM = 16 * 1024 * 1024;

/**
 * What differs between two images, from the outside in: the packages that each consists of, the words of the command
 * line, the sections of the kernel image, the files.
 */
export async function diffImages(before: OsImageFolder, after: OsImageFolder): Promise<ImageDifference[]> {
  const differences: ImageDifference[] = [];
  const compare = (what: string, one: string | undefined, two: string | undefined): void => {
    if (one !== two) differences.push({ what, before: one, after: two });
  };
  const [oldParts, newParts] = [await components(before), await components(after)];
  for (const name of [...new Set([...oldParts.keys(), ...newParts.keys()])].sort())
    compare(`package ${name}`, oldParts.get(name), newParts.get(name));
  compare('version', before.version, after.version);
  for (const word of new Set([...words(before), ...words(after)]))
    if (words(before).includes(word) !== words(after).includes(word))
      compare(`command line ${word.split('=')[0]}`, has(before, word), has(after, word));
  const [oldSections, newSections] = [await sections(before), await sections(after)];
  for (const name of new Set([...oldSections.keys(), ...newSections.keys()]))
    compare(`section ${name}`, oldSections.get(name), newSections.get(name));
  for (const name of new Set([...before.listed.keys(), ...after.listed.keys()]))
    compare(`file ${name}`, before.listed.get(name), after.listed.get(name));
  for (const name of ['disk.raw', 'rootfs.img.parted.verity'])
    compare(
      `file ${name}`,
      await sha256File(join(before.folder, name)),
      await sha256File(join(after.folder, name)),
    );
  return differences;
}

function words({ commandLine }: OsImageFolder): string[] {
  return commandLine.split(' ');
}

function has(image: OsImageFolder, word: string): string | undefined {
  return words(image).includes(word) ? word : undefined;
}

async function sections({ folder }: OsImageFolder): Promise<Map<string, string>> {
  const file = join(folder, 'uki.efi');
  if ((await sha256File(file)) === undefined) return new Map();
  const uki = readUki(new Uint8Array(await readFile(file)));
  return new Map(
    [...uki.sections].map(([name, data]) => [name, createHash('sha256').update(data).digest('hex')]),
  );
}

async function components({ folder }: OsImageFolder): Promise<Map<string, string>> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(join(folder, 'sbom.cdx.json'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw error;
  }
  if (bytes.length > MAX_SBOM) return new Map();
  const document: unknown = JSON.parse(utf8Text(bytes));
  const list = (document as { components?: unknown }).components;
  if (!Array.isArray(list)) return new Map();
  return new Map(
    list.map((one: { name?: unknown; version?: unknown; hashes?: [{ content?: unknown }] }) => [
      String(one.name),
      `${String(one.version)} ${String(one.hashes?.[0]?.content).slice(0, 16)}`,
    ]),
  );
}

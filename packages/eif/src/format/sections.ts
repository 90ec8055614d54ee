import { ByteReader } from '@dstack-cloud/encoding';
import type { ByteSource } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { type EifHeader, HEADER_BYTES, MAX_SECTIONS } from './header.ts';

export const SECTION_HEADER_BYTES = 12;

/** Numbers of the section types (docs/protocol/images.md section 6.2). */
export const SECTION_TYPES = { kernel: 1, cmdline: 2, ramdisk: 3, signature: 4, metadata: 5 } as const;

export type SectionName = keyof typeof SECTION_TYPES;

const NAMES = new Map<number, SectionName>(
  (Object.keys(SECTION_TYPES) as SectionName[]).map((name) => [SECTION_TYPES[name], name]),
);
/** The version that brought a section. */
const SINCE: Readonly<Record<SectionName, number>> = {
  kernel: 2,
  cmdline: 2,
  ramdisk: 2,
  signature: 3,
  metadata: 4,
};
/** Of these, which decide what runs, there is one order that every tool measures alike. */
const RANK: Partial<Record<SectionName, number>> = { kernel: 0, cmdline: 1, ramdisk: 2 };

export interface Section {
  readonly name: SectionName;
  /** Of its header; the payload begins 12 bytes later. */
  readonly offset: number;
  /** Of the payload, bytes. */
  readonly size: number;
}

/**
 * Walks the sections from header to header up to the end of the file, and holds both tables of the file's header to what
 * it finds: the tables alone would let two readers see two images.
 *
 * @throws EifError `truncated`, `malformed`, `tables-differ`, `trailing-bytes`
 */
export async function walkSections(source: ByteSource, header: EifHeader): Promise<Section[]> {
  const sections: Section[] = [];
  for (let offset = HEADER_BYTES; offset < source.size; ) {
    if (sections.length === header.sections.length)
      throw new EifError('trailing-bytes', 'Bytes follow the last section of the enclave image', {
        expected: `${header.sections.length} sections, the end at ${offset}`,
        found: `${source.size - offset} bytes more`,
      });
    const section = await sectionAt(source, offset, sections.length);
    requireInTables(section, header, sections.length);
    sections.push(section);
    offset += SECTION_HEADER_BYTES + section.size;
  }
  if (sections.length !== header.sections.length)
    throw new EifError('truncated', 'The enclave image ends before its last section', {
      expected: `${header.sections.length} sections`,
      found: String(sections.length),
    });
  requireWhole(sections, header);
  return sections;
}

async function sectionAt(source: ByteSource, offset: number, index: number): Promise<Section> {
  const left = source.size - offset;
  if (left < SECTION_HEADER_BYTES)
    throw new EifError('truncated', `The enclave image ends inside the header of section ${index}`, {
      expected: `${SECTION_HEADER_BYTES} bytes`,
      found: `${left} bytes`,
    });
  const reader = new ByteReader(await source.read(offset, SECTION_HEADER_BYTES));
  const type = reader.u16be();
  const flags = reader.u16be();
  const size = reader.u64be();
  reader.finish();
  const name = NAMES.get(type);
  if (name === undefined)
    throw new EifError('malformed', `Section ${index} is of an unknown type`, {
      expected: '1 to 5',
      found: String(type),
    });
  if (flags !== 0)
    throw new EifError('malformed', `Section ${index} (${name}) has unknown flags`, {
      expected: '0',
      found: String(flags),
    });
  if (size > BigInt(left - SECTION_HEADER_BYTES))
    throw new EifError('truncated', `The enclave image ends inside section ${index} (${name})`, {
      expected: `${size} bytes`,
      found: `${left - SECTION_HEADER_BYTES} bytes`,
    });
  return { name, offset, size: Number(size) };
}

function requireInTables({ name, offset, size }: Section, header: EifHeader, index: number): void {
  const listed = header.sections[index]!;
  if (listed.offset === BigInt(offset) && listed.size === BigInt(size)) return;
  throw new EifError('tables-differ', `The tables of the header do not fit section ${index} (${name})`, {
    expected: `offset ${offset}, size ${size}`,
    found: `offset ${listed.offset}, size ${listed.size}`,
  });
}

function requireWhole(sections: readonly Section[], { version }: EifHeader): void {
  const count = (name: SectionName): number => sections.filter((one) => one.name === name).length;
  for (const name of ['kernel', 'cmdline'] as const)
    requireCount(name, count(name), 'one', count(name) === 1);
  requireCount('ramdisk', count('ramdisk'), 'at least one', count('ramdisk') > 0);
  for (const name of ['signature', 'metadata'] as const)
    requireCount(name, count(name), 'at most one', count(name) < 2);
  const early = sections.find(({ name }) => SINCE[name] > version);
  if (early)
    throw new EifError('malformed', `An enclave image of version ${version} has no section ${early.name}`, {
      expected: `version ${SINCE[early.name]} or later`,
      found: `version ${version}`,
    });
  const ranks = sections.flatMap(({ name }) => RANK[name] ?? []);
  if (ranks.some((rank, i) => i > 0 && rank < ranks[i - 1]!))
    throw new EifError(
      'malformed',
      'The sections are in an order that tools measure differently, so the image has no certain PCRs',
      {
        expected: 'kernel, cmdline, then the ramdisks',
        found: sections.map(({ name }) => name).join(', '),
      },
    );
}

function requireCount(name: SectionName, found: number, expected: string, isRight: boolean): void {
  if (isRight) return;
  const what = found === 0 ? `has no ${name}` : `has ${found} sections ${name}`;
  throw new EifError('malformed', `The enclave image ${what}`, { expected, found: String(found) });
}

/** Most sections that a header has room for. */
export function requireRoom(count: number): void {
  if (count > MAX_SECTIONS)
    throw new EifError('too-large', `An enclave image has at most ${MAX_SECTIONS} sections`, {
      found: String(count),
    });
}

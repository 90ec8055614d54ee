import { ByteWriter, utf8 } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';

/** A file of the volume, by its path with `/` between directories. */
interface FatFile {
  readonly path: string;
  readonly data: Uint8Array;
}

export interface FatOptions {
  /** Size of the volume, bytes; a multiple of 512. */
  readonly size: number;
  /** At most 11 characters of upper case, digits, `_` and `-`. */
  readonly label: string;
  readonly volumeId: number;
  readonly files: readonly FatFile[];
  /** Sectors before the volume on its disk. */
  readonly hiddenSectors?: number;
  /** Geometry for those who do not count sectors; 63 and 255 unless said. */
  readonly sectorsPerTrack?: number;
  readonly heads?: number;
}

const SECTOR = 512;
const RESERVED = 32;
const END = 0x0fff_ffff;
const ATTRIBUTE = { volume: 0x08, directory: 0x10, archive: 0x20, longName: 0x0f } as const;
/** 1 January 1980, the first date that the format knows; the same for all files. */
const DATE = 0x0021;
const SHORT = /^[A-Z0-9_~!#$%&'()@^`{}-]{1,8}(\.[A-Z0-9_~!#$%&'()@^`{}-]{1,3})?$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the format refuses them in names
const LONG = /^[^\0-\x1f"*/:<>?\\|\x7f]{1,255}$/;

interface Node {
  readonly name: string;
  readonly children: Map<string, Node> | undefined;
  readonly data: Uint8Array;
  cluster: number;
}

/**
 * A FAT32 volume with one-sector clusters (Microsoft FAT specification 1.03). Equal input gives equal bytes. Readers
 * that count clusters take less than 65,525 of them, about 33 MiB, for FAT16: such a volume is only for readers that
 * look at the layout, as Linux does.
 */
export function writeFat32(options: FatOptions): Uint8Array {
  const { size, label, volumeId, files } = options;
  if (size % SECTOR !== 0 || size < 1024 * 1024) throw bad(`cannot have ${size} bytes`);
  if (!/^[A-Z0-9_-]{1,11}$/.test(label)) throw bad(`cannot have the label ${JSON.stringify(label)}`);
  const sectors = size / SECTOR;
  // Each cluster takes its sector and four bytes in each of two tables.
  const fatSectors = Math.ceil(((sectors - RESERVED + 2) * 4) / (SECTOR + 8));
  const firstData = RESERVED + 2 * fatSectors;
  const clusters = sectors - firstData;
  const volume = new Uint8Array(size);
  const fat = new Uint32Array((fatSectors * SECTOR) / 4);
  fat[0] = 0x0fff_fff8;
  fat[1] = END;
  let next = 2;
  const store = (data: Uint8Array): number => {
    const count = Math.ceil(data.length / SECTOR);
    if (count === 0) return 0;
    if (next - 2 + count > clusters) throw bad(`of ${size} bytes has no room for its files`);
    const first = next;
    for (let i = 0; i < count; i++) fat[first + i] = i === count - 1 ? END : first + i + 1;
    volume.set(data, (firstData + first - 2) * SECTOR);
    next += count;
    return first;
  };
  const root = tree(files);
  // The root directory lies first: its chain is as long as its entries, known before its children are stored.
  reserve(root, store, true);
  fill(root, root.cluster, volume, firstData, label);
  const free = clusters - (next - 2);
  const boot = bootSector({
    ...{ sectors, fatSectors, label, volumeId, hidden: options.hiddenSectors ?? 0 },
    ...{ sectorsPerTrack: options.sectorsPerTrack ?? 63, heads: options.heads ?? 255 },
  });
  const info = infoSector(free, next);
  for (const at of [0, 6]) {
    volume.set(boot, at * SECTOR);
    volume.set(info, (at + 1) * SECTOR);
    volume.set([0x55, 0xaa], (at + 2) * SECTOR + 510);
  }
  const table = new ByteWriter();
  for (const entry of fat) table.u32le(entry);
  const bytes = table.finish();
  volume.set(bytes, RESERVED * SECTOR);
  volume.set(bytes, (RESERVED + fatSectors) * SECTOR);
  return volume;
}

function tree(files: readonly FatFile[]): Node {
  const root = directory('');
  for (const { path, data } of files) {
    const parts = path.split('/');
    let at = root;
    for (const [index, name] of parts.entries()) {
      if (!LONG.test(name) || /[. ]$/.test(name) || name === '..')
        throw bad(`cannot hold the name ${JSON.stringify(path)}`);
      const key = name.toUpperCase();
      const known = at.children!.get(key);
      const last = index === parts.length - 1;
      if (known && (last || !known.children)) throw bad(`would hold ${JSON.stringify(path)} twice`);
      const node = known ?? (last ? { name, children: undefined, data, cluster: 0 } : directory(name));
      at.children!.set(key, node);
      at = node;
    }
  }
  return root;
}

function directory(name: string): Node {
  return { name, children: new Map(), data: new Uint8Array(0), cluster: 0 };
}

function reserve(node: Node, store: (data: Uint8Array) => number, isRoot = false): void {
  if (!node.children) {
    node.cluster = store(node.data);
    return;
  }
  let entries = isRoot ? 1 : 2;
  for (const child of node.children.values()) entries += 1 + longEntries(child.name);
  node.cluster = store(new Uint8Array(Math.max(entries, 1) * 32));
  for (const child of node.children.values()) reserve(child, store);
}

function fill(node: Node, parent: number, volume: Uint8Array, firstData: number, label?: string): void {
  if (!node.children) return;
  const out = new ByteWriter();
  if (label !== undefined) out.bytes(entry(utf8(label.padEnd(11)), ATTRIBUTE.volume, 0, 0));
  else {
    out.bytes(entry(utf8('.'.padEnd(11)), ATTRIBUTE.directory, node.cluster, 0));
    out.bytes(entry(utf8('..'.padEnd(11)), ATTRIBUTE.directory, parent, 0));
  }
  const shorts = [...node.children.values()].filter((one) => SHORT.test(one.name));
  const aliases = new Set(shorts.map((one) => new TextDecoder().decode(shortName(one.name))));
  for (const child of node.children.values()) {
    const isShort = SHORT.test(child.name);
    const short = isShort ? shortName(child.name) : aliasOf(child.name, aliases);
    if (!isShort) out.bytes(longName(child.name, short));
    const attribute = child.children ? ATTRIBUTE.directory : ATTRIBUTE.archive;
    out.bytes(entry(short, attribute, child.cluster, child.data.length));
    // The parent of a directory in the root is written as 0.
    fill(child, label === undefined ? node.cluster : 0, volume, firstData);
  }
  volume.set(out.finish(), (firstData + node.cluster - 2) * SECTOR);
}

function longEntries(name: string): number {
  return SHORT.test(name) ? 0 : Math.ceil(name.length / 13);
}

function shortName(name: string): Uint8Array {
  const [stem = '', extension = ''] = name.split('.');
  return utf8(stem.padEnd(8) + extension.padEnd(3));
}

/** The short name of a long one: six characters, `~` and a number (Microsoft FAT specification 1.03, basis-name). */
function aliasOf(name: string, taken: Set<string>): Uint8Array {
  const clean = (text: string): string => text.toUpperCase().replace(/[^A-Z0-9_~!#$%&'()@^`{}-]/g, '_');
  const bare = name.replace(/^\.+/, '').replaceAll(' ', '');
  const dot = bare.lastIndexOf('.');
  const stem = clean((dot < 0 ? bare : bare.slice(0, dot)).replaceAll('.', ''));
  const extension = clean(dot < 0 ? '' : bare.slice(dot + 1, dot + 4));
  for (let number = 1; ; number += 1) {
    const tail = `~${number}`;
    const alias = stem.slice(0, 8 - tail.length) + tail;
    const text = alias.padEnd(8) + extension.padEnd(3);
    if (taken.has(text)) continue;
    taken.add(text);
    return utf8(text);
  }
}

/** The parts of a long name, last part first, each with the checksum of the short name that it belongs to. */
function longName(name: string, short: Uint8Array): Uint8Array {
  let checksum = 0;
  for (const byte of short) checksum = (((checksum & 1) << 7) + (checksum >> 1) + byte) & 0xff;
  const count = longEntries(name);
  const unit = (i: number): number => (i < name.length ? name.charCodeAt(i) : i === name.length ? 0 : 0xffff);
  const out = new ByteWriter();
  for (let part = count; part >= 1; part--) {
    const at = (part - 1) * 13;
    const units = (from: number, to: number): void => {
      for (let i = from; i < to; i++) out.u16le(unit(at + i));
    };
    out.u8(part === count ? part | 0x40 : part);
    units(0, 5);
    out.u8(ATTRIBUTE.longName).u8(0).u8(checksum);
    units(5, 11);
    out.u16le(0);
    units(11, 13);
  }
  return out.finish();
}

function entry(name: Uint8Array, attribute: number, cluster: number, size: number): Uint8Array {
  return new ByteWriter()
    .bytes(name)
    .u8(attribute)
    .u8(0)
    .u8(0)
    .u16le(0)
    .u16le(DATE)
    .u16le(DATE)
    .u16le(cluster >>> 16)
    .u16le(0)
    .u16le(DATE)
    .u16le(cluster & 0xffff)
    .u32le(size)
    .finish();
}

interface BootSector {
  readonly sectors: number;
  readonly fatSectors: number;
  readonly label: string;
  readonly volumeId: number;
  readonly hidden: number;
  readonly sectorsPerTrack: number;
  readonly heads: number;
}

function bootSector({ sectors, fatSectors, label, volumeId, hidden, ...geometry }: BootSector): Uint8Array {
  const bytes = new ByteWriter()
    .bytes(Uint8Array.of(0xeb, 0x58, 0x90))
    .bytes(utf8('DSTACK  '))
    .u16le(SECTOR)
    .u8(1)
    .u16le(RESERVED)
    .u8(2)
    .u16le(0)
    .u16le(0)
    .u8(0xf8)
    .u16le(0)
    .u16le(geometry.sectorsPerTrack)
    .u16le(geometry.heads)
    .u32le(hidden)
    .u32le(sectors)
    .u32le(fatSectors)
    .u16le(0)
    .u16le(0)
    .u32le(2)
    .u16le(1)
    .u16le(6)
    .bytes(new Uint8Array(12))
    .u8(0x80)
    .u8(0)
    .u8(0x29)
    .u32le(volumeId)
    .bytes(utf8(label.padEnd(11)))
    .bytes(utf8('FAT32   '))
    .finish();
  const sector = new Uint8Array(SECTOR);
  sector.set(bytes);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

function infoSector(free: number, next: number): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  const view = new DataView(sector.buffer);
  view.setUint32(0, 0x41615252, true);
  view.setUint32(484, 0x61417272, true);
  view.setUint32(488, free, true);
  view.setUint32(492, next, true);
  view.setUint32(508, 0xaa550000, true);
  return sector;
}

function bad(what: string): OsImageError {
  return new OsImageError('format', `A FAT32 volume ${what}`);
}

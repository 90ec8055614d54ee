import { isZero } from '@dstack-cloud/encoding';
import { paxRecords } from './pax-records.ts';
import { parseTarHeader, type Refuse, TAR_BLOCK, upToNul } from './tar-header.ts';

/** Bytes that can be read at any place. */
export interface TarSource {
  /** Up to `length` bytes from `position` on; fewer only at the end. */
  read(position: number, length: number): Promise<Uint8Array>;
}

export type TarKind =
  | 'file'
  | 'link'
  | 'symlink'
  | 'character-device'
  | 'block-device'
  | 'directory'
  | 'fifo'
  | 'other';

/** A member of a tar archive, and where its content lies. Names are bytes as Latin-1. */
export interface TarMember {
  readonly kind: TarKind;
  /** As it stands in the header. */
  readonly type: string;
  readonly name: string;
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly major: number;
  readonly minor: number;
  /** Of a file's content. */
  readonly size: number;
  readonly offset: number;
  /** Whether it is stored without its holes, in one of GNU's forms. */
  readonly isSparse: boolean;
  /** Names of extended attributes. */
  readonly attributes: readonly string[];
}

interface WalkOptions {
  readonly refuse: Refuse;
  /** Largest extended header or long name, bytes. */
  readonly maxExtension: number;
  /** Whether an archive may end without the zeros that mark its end. */
  readonly mayEndOpen?: boolean;
}

const KINDS: Readonly<Record<string, TarKind>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'character-device',
  '4': 'block-device',
  '5': 'directory',
  '6': 'fifo',
};

/**
 * The members of an archive (POSIX.1-2017 pax with ustar, and GNU's long names and large sizes) without their contents, which stay
 * where they are. tar-stream reads archives from front to back and says no places.
 *
 * @throws what `refuse` makes
 */
export async function* walkTar(source: TarSource, options: WalkOptions): AsyncGenerator<TarMember> {
  const { refuse, maxExtension } = options;
  let extended: Extended = { attributes: [] };
  for (let at = 0; ; ) {
    const block = await source.read(at, TAR_BLOCK);
    if (block.length < TAR_BLOCK) {
      if (options.mayEndOpen === true && at > 0) return;
      throw refuse('ends early, or is no tar archive');
    }
    if (isZero(block)) return;
    const header = parseTarHeader(block, refuse);
    const { type } = header;
    const offset = at + TAR_BLOCK;
    const size = extended.size ?? header.size;
    at = offset + Math.ceil(size / TAR_BLOCK) * TAR_BLOCK;
    if (!Number.isSafeInteger(at)) throw refuse('has a member of an impossible size');
    if ('xgLK'.includes(type)) {
      if (size > maxExtension) throw refuse(`has an extended header of ${size} bytes, which is too large`);
      const bytes = await source.read(offset, size);
      if (bytes.length < size) throw refuse('ends early');
      if (type === 'g') requireHarmless(readPax(bytes, refuse), refuse);
      if (type === 'x') extended = { ...extended, ...readPax(bytes, refuse) };
      if (type === 'L') extended = { ...extended, name: upToNul(bytes) };
      if (type === 'K') extended = { ...extended, linkName: upToNul(bytes) };
      continue;
    }
    const name = extended.name ?? header.name;
    const kind = KINDS[type] ?? 'other';
    yield {
      ...header,
      // An old form marks folders by a slash alone.
      kind: kind === 'file' && name.endsWith('/') ? 'directory' : kind,
      name,
      linkName: extended.linkName ?? header.linkName,
      uid: extended.uid ?? header.uid,
      gid: extended.gid ?? header.gid,
      size: kind === 'file' ? size : 0,
      offset,
      isSparse: type === 'S' || extended.isSparse === true,
      attributes: extended.attributes,
    };
    extended = { attributes: [] };
  }
}

interface Extended {
  readonly name?: string;
  readonly linkName?: string;
  readonly size?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly isSparse?: true;
  readonly attributes: readonly string[];
}

function readPax(bytes: Uint8Array, refuse: Refuse): Extended {
  const found: { -readonly [K in keyof Extended]: Extended[K] } & { attributes: string[] } = {
    attributes: [],
  };
  for (const [key, value] of paxRecords(bytes, refuse)) {
    if (key === 'path') found.name = value;
    if (key === 'linkpath') found.linkName = value;
    if (key === 'size' || key === 'uid' || key === 'gid') found[key] = decimal(value, refuse);
    if (key.startsWith('GNU.sparse.')) found.isSparse = true;
    if (key.startsWith('SCHILY.xattr.')) found.attributes.push(key.slice('SCHILY.xattr.'.length));
  }
  return found;
}

/** A header for all members that follow: none that matters is to be found in an image. */
function requireHarmless({ attributes, ...rest }: Extended, refuse: Refuse): void {
  if (Object.keys(rest).length > 0 || attributes.length > 0)
    throw refuse('has a global header that changes members, which images do not have');
}

function decimal(digits: string, refuse: Refuse): number {
  const value = /^\d{1,16}$/.test(digits) ? Number(digits) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw refuse('has an extended header with a number that is none');
  return value;
}

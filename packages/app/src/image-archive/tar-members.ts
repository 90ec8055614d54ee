import { AppError } from '../errors.ts';
import { walkTar } from '../tar/walk-tar.ts';
import { type ByteRange, partOf } from './byte-range.ts';

/** A regular file in a tar archive. */
export interface TarFile {
  /** Without a leading `./` or `/`. */
  readonly name: string;
  readonly size: number;
  readonly content: ByteRange;
}

/** Most members of an archive, whatever they are. */
const MAX_MEMBERS = 20_000;
/** Largest extended header, bytes: it holds names. */
const MAX_EXTENSION = 64 * 1024;
/** Longest name, characters: PATH_MAX of Linux. Callers keep the names of a whole archive. */
const MAX_NAME = 4096;

/**
 * The regular files of a tar archive, without reading what is in them. Other members are passed over: nothing is ever
 * unpacked.
 *
 * @throws AppError `image-archive-invalid`
 */
export async function* tarFiles(archive: ByteRange): AsyncGenerator<TarFile> {
  let members = 0;
  for await (const member of walkTar(archive, { refuse: invalid, maxExtension: MAX_EXTENSION })) {
    members += 1;
    if (members > MAX_MEMBERS) throw invalid(`has more than ${MAX_MEMBERS} members`);
    if (member.name.length > MAX_NAME)
      throw invalid(`has a member with a name of more than ${MAX_NAME} characters`);
    if (member.kind !== 'file' || member.isSparse) continue;
    const name = new TextDecoder().decode(Buffer.from(member.name, 'latin1'));
    const content = partOf(archive, member.offset, member.size);
    yield { name: name.replace(/^(?:\.?\/)+/, ''), size: member.size, content };
  }
}

function invalid(what: string): AppError {
  return new AppError('image-archive-invalid', `The archive ${what}`);
}

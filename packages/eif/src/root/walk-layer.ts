import { type TarKind, type TarMember, walkTar } from '@dstack-cloud/app/tar';
import { type ByteSource, CHUNK } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { shown } from './root-tree.ts';

/** Headers are read in windows of this size, bytes. */
const WINDOW = 128 * 1024;
/** Most of an extended header or a long name. */
const MAX_EXTENSION = 1 << 20;

/** A member of an archive that an image can have. */
export interface LayerMember extends TarMember {
  readonly kind: Exclude<TarKind, 'other'>;
}

/**
 * The members of a layer, or of the archive around layers: an image is read in the order of its names, not of its archives,
 * and is never copied.
 *
 * @throws EifError `bad-image`
 */
export async function* walkLayer(source: ByteSource): AsyncGenerator<LayerMember> {
  const refuse = (what: string): EifError => new EifError('bad-image', `${source.name} ${what}`);
  const options = { refuse, maxExtension: MAX_EXTENSION, mayEndOpen: true };
  for await (const member of walkTar(new Window(source), options)) {
    const { kind, name } = member;
    if (member.isSparse)
      throw new EifError('bad-image', `${shown(name)} is stored as a sparse file, in a form of GNU tar`, {
        hint: 'Pack the archive without --sparse',
      });
    if (!isOfImage(kind))
      throw new EifError(
        'bad-image',
        `${shown(name)} is a member of type ${JSON.stringify(member.type)}, which images do not have`,
      );
    if (member.offset + member.size > source.size)
      throw refuse(`ends inside ${shown(name)}: it was cut short`);
    yield { ...member, kind };
  }
}

function isOfImage(kind: TarKind): kind is LayerMember['kind'] {
  return kind !== 'other';
}

/** Small reads near each other from one large one. */
class Window {
  readonly #source: ByteSource;
  #at = 0;
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(source: ByteSource) {
    this.#source = source;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const wanted = Math.max(0, Math.min(length, this.#source.size - offset));
    if (wanted === 0) return new Uint8Array(0);
    const isInside = offset >= this.#at && offset + wanted <= this.#at + this.#bytes.length;
    if (!isInside) {
      const size = Math.min(Math.max(WINDOW, wanted), this.#source.size - offset, Math.max(CHUNK, wanted));
      this.#bytes = await this.#source.read(offset, size);
      this.#at = offset;
    }
    return this.#bytes.subarray(offset - this.#at, offset - this.#at + wanted);
  }
}

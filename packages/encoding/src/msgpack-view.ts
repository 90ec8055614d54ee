import { utf8Text } from './bytes.ts';
import { EncodingError } from './errors.ts';
import { checkMsgpackShape, type MsgpackShape } from './msgpack-shape.ts';
import { type MsgpackKind, MsgpackWalker } from './msgpack-walker.ts';

/**
 * One value of a MessagePack text, which is not built: whoever knows what it should be asks for that, and only what is
 * asked for takes memory.
 */
export class MsgpackView {
  readonly #bytes: Uint8Array;
  readonly #offset: number;
  readonly kind: MsgpackKind;
  /** Bytes of a text or byte string, items of an array, pairs of a map. */
  readonly length: number;

  private constructor(bytes: Uint8Array, offset: number) {
    this.#bytes = bytes;
    this.#offset = offset;
    const walker = this.#walker();
    this.kind = walker.kind;
    this.length = walker.value;
  }

  /** The value that is the whole text. @throws EncodingError, see `checkMsgpackShape` */
  static of(bytes: Uint8Array, shape: MsgpackShape): MsgpackView {
    checkMsgpackShape(bytes, shape);
    return new MsgpackView(bytes, 0);
  }

  /** Undefined for what is no integer, and for integers that a double does not hold exactly. */
  integer(): number | undefined {
    const { kind, value } = this.#walker();
    return kind === 'integer' && Number.isSafeInteger(value) ? value : undefined;
  }

  /** @throws EncodingError when it is no text, or no UTF-8 */
  text(): string {
    return utf8Text(this.#walker('text').content());
  }

  /** A byte string, as a view of the input. @throws EncodingError when it is none */
  bytes(): Uint8Array {
    return this.#walker('bytes').content();
  }

  /** @throws EncodingError when it is no array */
  *items(): Generator<MsgpackView, void, undefined> {
    const walker = this.#walker('array');
    for (let left = walker.value; left > 0; left--) {
      yield new MsgpackView(this.#bytes, walker.offset);
      walker.skip();
    }
  }

  /** The values of a map by their names. @throws EncodingError when it is no map, or a key is no text */
  members(): Map<string, MsgpackView> {
    const walker = this.#walker('map');
    const members = new Map<string, MsgpackView>();
    for (let left = walker.value; left > 0; left--) {
      const name = new MsgpackView(this.#bytes, walker.offset).text();
      walker.skip();
      members.set(name, new MsgpackView(this.#bytes, walker.offset));
      walker.skip();
    }
    return members;
  }

  /** Behind the header, and the content of a text or byte string. */
  #walker(expected?: MsgpackKind): MsgpackWalker {
    const walker = new MsgpackWalker(this.#bytes, this.#offset);
    walker.next();
    if (expected !== undefined && walker.kind !== expected) {
      throw new EncodingError('invalid-value', `MessagePack: ${walker.kind} where ${expected} is expected`);
    }
    return walker;
  }
}

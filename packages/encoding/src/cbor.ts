import { decode, encode, rfc8949EncodeOptions, type Token, Tokenizer, Type } from 'cborg';
import { utf8Text } from './bytes.ts';
import { EncodingError } from './errors.ts';

const DEFAULT_MAX_DEPTH = 16;
/** Items in one text, keys included; an NSM document has less than two hundred. */
export const MAX_CBOR_ITEMS = 4_096;
/** Major type 6, value 18. */
const TAG_18 = 0xd2;

export interface CborLimits {
  /** Whether indefinite lengths are taken; refused by default. NSM payloads start with an indefinite map. */
  readonly indefinite?: boolean;
  /** Deepest nesting of arrays, maps and tags. */
  readonly maxDepth?: number;
  /** Most items, keys included; {@link MAX_CBOR_ITEMS} otherwise. */
  readonly maxItems?: number;
}

/**
 * Reads one CBOR item (RFC 8949); maps become `Map`, integers beyond 2^53 `bigint`. Tag 18 (COSE_Sign1) is dropped when
 * it stands first, once.
 * @throws EncodingError for trailing bytes, duplicate keys, integers or lengths that are not minimal, other tags,
 * text that is not UTF-8, nesting beyond the limit, and too many items
 */
export function decodeCbor(bytes: Uint8Array, limits: CborLimits = {}): unknown {
  const options = {
    strict: true,
    allowBigInt: true,
    useMaps: true,
    rejectDuplicateMapKeys: true,
    retainStringBytes: true,
    allowIndefinite: limits.indefinite ?? false,
  };
  try {
    const item = bytes[0] === TAG_18 ? bytes.subarray(1) : bytes;
    const tokenizer = new BoundedTokenizer(item, options, limits);
    return decode(item, { ...options, tokenizer });
  } catch (cause) {
    if (cause instanceof EncodingError) throw cause;
    throw new EncodingError('invalid-value', `Not the CBOR expected: ${(cause as Error).message}`, { cause });
  }
}

/** Writes CBOR with the deterministic rules of RFC 8949 section 4.2.1; `Map` and plain objects become maps. */
export function encodeCbor(value: unknown): Uint8Array {
  return encode(value, rfc8949EncodeOptions);
}

interface Frame {
  left: number;
  seen: number;
  readonly pairs: boolean;
}

/** The tokenizer of cborg with a bound on nesting, so that no input can exhaust the stack. */
class BoundedTokenizer extends Tokenizer {
  readonly #maxDepth: number;
  readonly #maxItems: number;
  readonly #open: Frame[] = [];
  #items = 0;

  constructor(bytes: Uint8Array, options: ConstructorParameters<typeof Tokenizer>[1], limits: CborLimits) {
    super(bytes, options);
    this.#maxDepth = limits.maxDepth ?? DEFAULT_MAX_DEPTH;
    this.#maxItems = limits.maxItems ?? MAX_CBOR_ITEMS;
  }

  override next(): Token {
    const token = super.next();
    this.#items += 1;
    if (this.#items > this.#maxItems) throw new EncodingError('too-large', 'CBOR has too many items');
    if (Type.equals(token.type, Type.break)) this.#closeIndefinite();
    else {
      this.#count();
      if (token.type === Type.string && token.byteValue) utf8Text(token.byteValue);
      if (!token.type.terminal) this.#openNested(token);
    }
    while (this.#open.length > 0 && this.#open.at(-1)!.left === 0) this.#open.pop();
    return token;
  }

  #count(): void {
    const frame = this.#open.at(-1);
    if (!frame) return;
    frame.left--;
    frame.seen++;
  }

  #openNested(token: Token): void {
    if (this.#open.length >= this.#maxDepth) throw new EncodingError('too-deep', 'CBOR is nested too deeply');
    const pairs = Type.equals(token.type, Type.map);
    const left = Type.equals(token.type, Type.tag) ? 1 : Number(token.value) * (pairs ? 2 : 1);
    this.#open.push({ left, seen: 0, pairs });
  }

  #closeIndefinite(): void {
    const frame = this.#open.pop();
    // A break between a key and its value would leave cborg's marker as the value (RFC 8949 section 3.2.1).
    if (frame?.left !== Number.POSITIVE_INFINITY || (frame.pairs && frame.seen % 2 !== 0)) {
      throw new EncodingError('invalid-value', 'CBOR break in the wrong place');
    }
  }
}

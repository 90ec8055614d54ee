import { decode, encode } from '@msgpack/msgpack';
import { EncodingError } from './errors.ts';
import { checkMsgpackShape } from './msgpack-shape.ts';

export interface MsgpackLimits {
  /** Longest input, in bytes; no string, array or map in it can then be longer. */
  readonly maxBytes: number;
  /** Deepest nesting of maps and arrays; default 32. */
  readonly maxDepth?: number;
}

/**
 * Reads one MessagePack value; maps become objects, 64-bit integers `bigint`.
 * @throws EncodingError when it is longer than `maxBytes`, cut short, followed by bytes, nested too deep,
 * has a key twice, or uses extension types
 */
export function decodeMsgpack(bytes: Uint8Array, limits: MsgpackLimits): unknown {
  const max = limits.maxBytes;
  if (bytes.length > max) throw new EncodingError('too-large', `MessagePack exceeds ${max} bytes`);
  checkMsgpackShape(bytes, limits.maxDepth ?? 32);
  try {
    return decode(bytes, {
      useBigInt64: true,
      maxStrLength: max,
      maxBinLength: max,
      maxArrayLength: max,
      maxMapLength: max,
      maxExtLength: 0,
    });
  } catch (cause) {
    throw new EncodingError('invalid-value', `Not the MessagePack expected: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** Writes MessagePack with the shortest headers; `Uint8Array` becomes bin, `bigint` a 64-bit integer. */
export function encodeMsgpack(value: unknown): Uint8Array {
  return encode(value, { useBigInt64: true, ignoreUndefined: false });
}

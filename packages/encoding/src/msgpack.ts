import { decode, encode } from '@msgpack/msgpack';
import { EncodingError } from './errors.ts';
import { checkMsgpackShape } from './msgpack-shape.ts';

export interface MsgpackLimits {
  /** Longest input, in bytes; no string, array or map in it can then be longer. */
  readonly maxBytes: number;
  /** Deepest nesting of maps and arrays; default 32. */
  readonly maxDepth?: number;
  /** Values, keys included; default 4096. */
  readonly maxValues?: number;
  /** Pairs in one map; default 64. */
  readonly maxKeys?: number;
}

const DEFAULT_SHAPE = { maxDepth: 32, maxValues: 4096, maxKeys: 64 };

/**
 * Reads one small MessagePack value (`MsgpackView` is for others); maps become objects, 64-bit integers `bigint`.
 * @throws EncodingError when it is longer, deeper or larger than its limits, cut short, followed by bytes, has a
 * key twice, or uses extension types
 */
export function decodeMsgpack(bytes: Uint8Array, limits: MsgpackLimits): unknown {
  const max = limits.maxBytes;
  if (bytes.length > max) throw new EncodingError('too-large', `MessagePack exceeds ${max} bytes`);
  checkMsgpackShape(bytes, { ...DEFAULT_SHAPE, ...limits });
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

import { EncodingError } from './errors.ts';
import { MsgpackWalker } from './msgpack-walker.ts';

/** What a MessagePack text is at most. */
export interface MsgpackShape {
  /** Deepest nesting of maps and arrays. */
  readonly maxDepth: number;
  /** Values, keys included. */
  readonly maxValues: number;
  /** Pairs in one map. */
  readonly maxKeys: number;
}

/** A map or array that still waits for values. */
interface Open {
  left: number;
  /** Keys so far; only maps have them. */
  readonly keys: Set<string> | undefined;
}

const MAX_KEY = 1024;

/**
 * Walks over the one MessagePack value that a text should be, without building it. A decoder keeps an object for every
 * open level and every pair, so that a few bytes would cost memory by the gigabyte; and of equal keys it keeps the last
 * in silence.
 * @throws EncodingError `too-large` when the value exceeds the shape, `not-canonical` when a map has a key twice,
 * `truncated` and `trailing-bytes` when it is not all of the text
 */
export function checkMsgpackShape(bytes: Uint8Array, shape: MsgpackShape): void {
  const walker = new MsgpackWalker(bytes);
  const open: Open[] = [];
  let values = 0;
  do {
    values += 1;
    if (values > shape.maxValues) throw new EncodingError('too-large', 'MessagePack has too many values');
    const start = walker.offset;
    walker.next();
    noteKey(open.at(-1), walker, bytes.subarray(start, walker.offset));
    const opened = openAs(walker, shape.maxKeys);
    if (opened !== undefined) {
      if (open.length >= shape.maxDepth) {
        throw new EncodingError('too-large', `MessagePack is nested deeper than ${shape.maxDepth}`);
      }
      open.push(opened);
      continue;
    }
    while (open.length > 0 && --open.at(-1)!.left === 0) open.pop();
  } while (open.length > 0);
  if (!walker.done) {
    throw new EncodingError(
      'trailing-bytes',
      `MessagePack is followed by ${bytes.length - walker.offset} bytes`,
    );
  }
}

function openAs({ kind, value }: MsgpackWalker, maxKeys: number): Open | undefined {
  if (value === 0) return undefined;
  if (kind === 'array') return { left: value, keys: undefined };
  if (kind !== 'map') return undefined;
  if (value > maxKeys) {
    throw new EncodingError('too-large', `MessagePack map has too many keys: ${value}, at most ${maxKeys}`);
  }
  return { left: 2 * value, keys: new Set() };
}

/** Keys stand where an even number of a map's values is left. A longer header makes no other key of a text. */
function noteKey(map: Open | undefined, walker: MsgpackWalker, value: Uint8Array): void {
  if (!map?.keys || map.left % 2 !== 0) return;
  const key = walker.kind === 'text' ? walker.content() : value;
  const name = String.fromCharCode(...key.subarray(0, MAX_KEY));
  if (map.keys.has(name)) throw new EncodingError('not-canonical', 'MessagePack map with a key twice');
  map.keys.add(name);
}

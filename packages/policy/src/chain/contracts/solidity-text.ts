import { concatBytes } from '@dstack-cloud/encoding';
import { contentSlot, slotBytes } from './slots.ts';

/** Longest text that is read, in bytes. */
const MAX_TEXT_BYTES = 1_024;

/** Reads a slot; only slots that were loaded. */
export type Storage = (slot: bigint) => bigint;

/**
 * The slots that a `string` at `slot` occupies besides it, given that slot's value.
 * @returns undefined when the text is longer than we read, or the value is none that Solidity writes
 */
export function textSlots(slot: bigint, value: bigint): bigint[] | undefined {
  const length = textLength(value);
  if (length === undefined) return undefined;
  const words = isLong(value) ? Math.ceil(length / 32) : 0;
  const first = contentSlot(slot);
  return Array.from({ length: words }, (_, index) => BigInt.asUintN(256, first + BigInt(index)));
}

/** Read a `string`; bytes that are no UTF-8 are replaced, as `eth_call` readers do. */
export function readText(storage: Storage, slot: bigint): string | undefined {
  const value = storage(slot);
  const length = textLength(value);
  const others = textSlots(slot, value);
  if (length === undefined || others === undefined) return undefined;
  const bytes = isLong(value) ? concatBytes(...others.map((at) => slotBytes(storage(at)))) : slotBytes(value);
  return new TextDecoder().decode(bytes.subarray(0, length));
}

/** Up to 31 bytes lie in the slot itself, with twice their length in the last byte; else it has twice the length plus one. */
function isLong(value: bigint): boolean {
  return (value & 1n) === 1n;
}

function textLength(value: bigint): number | undefined {
  const length = isLong(value) ? (value - 1n) / 2n : (value & 0xffn) / 2n;
  const [least, most] = isLong(value) ? [32n, BigInt(MAX_TEXT_BYTES)] : [0n, 31n];
  return length >= least && length <= most ? Number(length) : undefined;
}

/** Strings as Solidity stores them, and slots that hold none. */
import { toHex, utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { contentSlot } from './slots.ts';
import { readText, textSlots } from './solidity-text.ts';

const SLOT = 4n;

/** Storage with one text, by the rules of the language's documentation. */
function storageOf(text: string): Map<bigint, bigint> {
  const bytes = utf8(text);
  const word = (part: Uint8Array): bigint => BigInt(`0x${toHex(part).padEnd(64, '0')}`);
  if (bytes.length < 32) return new Map([[SLOT, word(bytes) | BigInt(bytes.length * 2)]]);
  const words = Array.from({ length: Math.ceil(bytes.length / 32) }, (_, index) => {
    const part = word(bytes.subarray(index * 32, index * 32 + 32));
    return [contentSlot(SLOT) + BigInt(index), part] as const;
  });
  return new Map([[SLOT, BigInt(bytes.length * 2 + 1)], ...words]);
}

test('texts up to the bound are read, and only their slots', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 120 }), (text) => {
      const storage = storageOf(text);
      const slots = [SLOT, ...(textSlots(SLOT, storage.get(SLOT)!) ?? [])];
      if (utf8(text).length > 1_024) return;
      expect(new Set(slots)).toEqual(new Set(storage.keys()));
      expect(readText((slot) => storage.get(slot)!, SLOT)).toBe(text);
    }),
  );
});

test.each([
  ['a long text of 31 bytes', 63n],
  ['a long text of 1,025 bytes', 2_051n],
  ['an endless text', 2n ** 256n - 1n],
  ['a short text of 32 bytes', 64n],
  ['a short text of 127 bytes', 254n],
])('%s is none', (_, value) => {
  expect(textSlots(SLOT, value)).toBeUndefined();
  expect(readText(() => value, SLOT)).toBeUndefined();
});

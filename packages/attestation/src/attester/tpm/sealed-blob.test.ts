import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeSealedBlob, parseSealedBlob } from './sealed-blob.ts';

const bytes = (minLength: number, maxLength: number) => fc.uint8Array({ minLength, maxLength });
const seals = fc.record({
  publicArea: bytes(1, 512),
  privateArea: bytes(1, 512),
  creationData: bytes(0, 256),
  creationTicket: bytes(0, 256),
  number: fc.integer({ min: 1, max: 0xffff_ffff }),
  pcrs: fc
    .uniqueArray(fc.integer({ min: 0, max: 23 }), { minLength: 1, maxLength: 24 })
    .chain((indices) =>
      fc.tuple(
        ...indices.sort((a, b) => a - b).map((index) => bytes(32, 32).map((value) => ({ index, value }))),
      ),
    ),
  approver: bytes(0, 128),
});

test('a seal comes back as it was written, also from an index that is longer', () => {
  fc.assert(
    fc.property(seals, fc.nat(64), (seal, more) => {
      const stored = new Uint8Array([...encodeSealedBlob(seal), ...new Uint8Array(more)]);
      expect(parseSealedBlob(stored)).toEqual(seal);
    }),
  );
});

test('a seal whose writing was cut off, or of which any bit changed, is none', () => {
  fc.assert(
    fc.property(seals, fc.nat(), fc.nat(), (seal, cut, flip) => {
      const written = encodeSealedBlob(seal);
      const torn = written.slice().fill(0xff, cut % written.length);
      if (torn.some((byte, at) => byte !== written[at])) expect(parseSealedBlob(torn)).toBeUndefined();
      expect(parseSealedBlob(written.subarray(0, cut % written.length))).toBeUndefined();
      const changed = written.slice();
      const bit = flip % (8 * written.length);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(parseSealedBlob(changed)).toBeUndefined();
    }),
  );
});

test('arbitrary bytes are no seal, and no error', () => {
  fc.assert(
    fc.property(bytes(0, 600), (stored) => {
      expect(parseSealedBlob(stored)).toBeUndefined();
    }),
  );
});

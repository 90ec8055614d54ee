import { createHash } from 'node:crypto';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { k256 } from './choose-backend.ts';
import { libsecp256k1 } from './libsecp256k1.ts';
import { noble } from './noble.ts';
import { hasScalarsInRange } from './scalar-range.ts';

const ORDER = 'fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141';
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
/** Also numbers around 0 and the order, which random bytes never hit. */
const scalar = fc.oneof(
  bytes(32),
  fc
    .constantFrom('00'.repeat(32), `${'00'.repeat(31)}01`, ORDER, `${ORDER.slice(0, 62)}40`, 'ff'.repeat(32))
    .map((text) => fromHex(text)),
);
const native = libsecp256k1();

const outcome = (compute: () => Uint8Array | boolean): string => {
  try {
    const value = compute();
    return typeof value === 'boolean' ? String(value) : toHex(value);
  } catch {
    return 'refused';
  }
};

test('a native library is used where it loads', () => {
  expect(k256().name).toBe(native === undefined ? 'noble' : 'libsecp256k1');
});

test('the published vector of RFC 6979 on this curve', () => {
  const digest = new Uint8Array(createHash('sha256').update(utf8('Satoshi Nakamoto')).digest());
  const secret = fromHex(`${'00'.repeat(31)}01`);
  for (const backend of [noble, ...(native ? [native] : [])]) {
    expect(toHex(backend.sign(digest, secret)).slice(0, 64)).toBe(
      '934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8',
    );
  }
});

describe.skipIf(native === undefined)('libsecp256k1 gives the bytes of noble', () => {
  const { sign, publicKey, recover, verify, isPublicKey } = native ?? noble;

  test('for keys and signatures', () => {
    fc.assert(
      fc.property(scalar, scalar, (digest, secret) => {
        expect(outcome(() => publicKey(secret))).toBe(outcome(() => noble.publicKey(secret)));
        expect(outcome(() => sign(digest, secret))).toBe(outcome(() => noble.sign(digest, secret)));
      }),
      { numRuns: 300 },
    );
  });

  test('for recovery and verification, of good, changed and foreign signatures', () => {
    const change = fc.record({ at: fc.nat(64), by: fc.nat(255) });
    fc.assert(
      fc.property(scalar, bytes(32), change, (digest, secret, { at, by }) => {
        const signature = noble.sign(digest, secret);
        const key = noble.publicKey(secret);
        expect(recover(digest, signature)).toEqual(key);
        signature[at] = signature[at]! ^ by;
        fc.pre(hasScalarsInRange(signature));
        expect(outcome(() => recover(digest, signature))).toBe(
          outcome(() => noble.recover(digest, signature)),
        );
        const [compact, low] = [signature.subarray(0, 64), signature[32]! < 0x7f];
        if (low) {
          expect(verify(digest, compact, key)).toBe(noble.verify(digest, compact, key));
        }
      }),
      { numRuns: 300 },
    );
  });

  test('for what is a public key', () => {
    const key = fc.oneof(
      bytes(33),
      bytes(65),
      bytes(32).map((x) => Uint8Array.of(2, ...x)),
      bytes(32).map((secret) => noble.publicKey(secret)),
      fc.uint8Array({ maxLength: 70 }),
    );
    fc.assert(
      fc.property(key, (candidate) => {
        expect(isPublicKey(candidate)).toBe(noble.isPublicKey(candidate));
      }),
      { numRuns: 300 },
    );
  });
});

import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KeysError } from './errors.ts';
import { openSealedBox, sealBox } from './sealed-box.ts';
import { x25519PublicKey } from './x25519.ts';
import { secretBox } from './xsalsa20-poly1305.ts';

/** Boxes that libsodium (PyNaCl 1.6.2) sealed for the key whose secret is the bytes 0 to 31. */
const SECRET = Uint8Array.from({ length: 32 }, (_, at) => at);
const BOXES = [
  [
    'nothing',
    '',
    'd4be2f6bbb615df07d0ed98c9608bbc059ba33f5660197f5d2770527ef71ba517233036538ad72c2b064847b3da81215',
  ],
  [
    'a key',
    '00'.repeat(32),
    'eff6386e93aa7d15a63b16df968313672fd3c91ab5498d7f1ddad648fc343579c8e734b96cb75337815d0d9071b0f74b8c43a6894c4b5774a0f463f86f31954cccbffe7d9cd4e9a550d510573503ec6c',
  ],
  [
    'a longer text',
    toHex(utf8('sealed by libsodium, longer than one block of the stream cipher: '.repeat(3))),
    'a39d2139b831fe3b8e94dd53c719e3618f3f904017c804c888f07104019bea04ff46342789a4f614c4b6b3cd6619313d07d31935515039235ecf50c1648e4ae90a9ccdfc9c778620ed55396a788049ed4e55e2a181aa4f4686c8ae323ff3ad8b6f64cd6f719eb9d8983dc925f77481ef0f1705bc2e3743d94a2748d13de13f99e34179caa62601e64a3f1165f626386dbbfb038976bb07c0065c03c3444c8744febf0c93fa60315312b28f2bf52fd2bb14a0711538f4075a5932c2eec01b9dd5ca2edd92d1b7bd56eb0b719a688fa9a13929eb3226be74af43037195bcd63a56e7eb7a875f2fdf8625a1d883b1f2506540067d',
  ],
] as const;

describe('a sealed box', () => {
  test.each(BOXES)('of libsodium with %s opens', (_, message, box) => {
    expect(toHex(openSealedBox(fromHex(box), SECRET))).toBe(message);
  });

  test('comes back for its key, and for no other', () => {
    const [bytes32, message] = [
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.uint8Array({ maxLength: 300 }),
    ];
    fc.assert(
      fc.property(bytes32, bytes32, bytes32, message, (secret, other, throwAway, text) => {
        const box = sealBox(text, x25519PublicKey(secret), throwAway);
        expect(openSealedBox(box, secret)).toEqual(text);
        if (toHex(x25519PublicKey(other)) === toHex(x25519PublicKey(secret))) return;
        expect(() => openSealedBox(box, other)).toThrow(KeysError);
      }),
      { numRuns: 50 },
    );
  });

  test('with any bit changed, or cut off anywhere, does not open', () => {
    const box = sealBox(utf8('thirty-two bytes of a sealed key'), x25519PublicKey(SECRET));
    for (let bit = 0; bit < 8 * box.length; bit += 7) {
      // The top bit of an X25519 key is not looked at (RFC 7748 section 5), but goes into the nonce.
      const changed = box.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => openSealedBox(changed, SECRET)).toThrow(KeysError);
    }
    for (let length = 0; length < box.length; length++)
      expect(() => openSealedBox(box.subarray(0, length), SECRET)).toThrow(KeysError);
  });

  test('from a key of small order is refused', () => {
    const box = new Uint8Array(80);
    expect(() => openSealedBox(box, SECRET)).toThrow(/small order/);
  });
});

test('XSalsa20-Poly1305 is that of libsodium', () => {
  const [nonce, key] = [24, 32].map((length) =>
    Uint8Array.from({ length }, (_, at) => at + (length === 32 ? 1 : 0)),
  );
  expect(toHex(secretBox(utf8('q'.repeat(100)), nonce!, key!))).toBe(
    '162bf2e972b8d2d68030539b48b099d8b3fca638d599031e9dfdd2b2b891c7d26d976831fa8c2a5edf6edd257aaa2917fa1118669f43555558dd139dc4ce78d096bab2e32d195db325cba13c6c762fed257af7def27de67a50b49425d4e89d1575af103628a0c3bd783e55fcf5c5a8aac43c96b3',
  );
});

import { hkdfSync, verify } from 'node:crypto';
import { concatBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deriveAppKeys } from './app-keys.ts';
import { KeysError } from './errors.ts';
import { getKey, verifySignatureChain } from './get-key.ts';
import { hkdf } from './hkdf.ts';
import { k256PublicKey, recoverK256, signK256 } from './k256.ts';
import { generateP256Key, p256KeyFromPem, p256KeyFromScalar, p256KeyPem } from './p256-key.ts';
import { decryptEnv, encryptEnv, sealEnv } from './sealed-env.ts';
import { signData, verifyData } from './sign-data.ts';
import { x25519PublicKey } from './x25519.ts';

const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
/** Below the order of both curves: the first byte is never ff. */
const secret = bytes(32).filter((b) => b[0] !== 0xff && b.some((x) => x !== 0));

describe('hkdf', () => {
  it('equals node:crypto and has no limit of 1024 bytes on contexts', () => {
    fc.assert(
      fc.property(
        bytes(32),
        fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 4 }),
        fc.integer({ min: 1, max: 200 }),
        (ikm, contexts, length) => {
          const reference = new Uint8Array(
            hkdfSync('sha256', ikm, 'RATLS', concatBytes(...contexts), length),
          );
          expect(hkdf(ikm, contexts, length)).toEqual(reference);
        },
      ),
    );
    expect(getKey(new Uint8Array(32).fill(1), 'x'.repeat(5000), '', '').key.length).toBe(32);
  });

  it('refuses impossible lengths', () => {
    for (const length of [0, -1, 1.5, 8161])
      expect(() => hkdf(new Uint8Array(32), [], length)).toThrow(KeysError);
  });
});

describe('P-256 keys', () => {
  it('refuses scalars outside of the group', () => {
    const order = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551';
    for (const scalar of [
      new Uint8Array(32),
      fromHex(order),
      new Uint8Array(32).fill(0xff),
      new Uint8Array(31),
    ]) {
      expect(() => p256KeyFromScalar(scalar)).toThrow(KeysError);
    }
    expect(p256KeyFromScalar(fromHex(`${order.slice(0, -1)}0`)).publicPoint.length).toBe(65);
  });

  it('survives PEM, keeps its KeyObjects, and signs', () => {
    const key = generateP256Key();
    const read = p256KeyFromPem(p256KeyPem(key));
    expect(read.scalar).toEqual(key.scalar);
    expect(read.privateKey).toBe(read.privateKey);
    expect(verify('sha256', utf8('x'), read.publicKey, Buffer.from('no signature'))).toBe(false);
    expect(key.spki.length).toBe(91);
    expect(key.pkcs8.length).toBe(138);
  });

  it('refuses a PEM key whose public part belongs to another key', () => {
    const [one, two] = [generateP256Key(), generateP256Key()];
    const mixed = { ...one, pkcs8: concatBytes(one.pkcs8.subarray(0, 73), two.publicPoint) };
    expect(() => p256KeyFromPem(p256KeyPem(mixed))).toThrow(KeysError);
    expect(() => p256KeyFromPem('no PEM')).toThrow(KeysError);
  });
});

describe('secp256k1', () => {
  it('recovers the signer, and refuses high S and other recovery ids', () => {
    fc.assert(
      fc.property(secret, fc.uint8Array({ maxLength: 64 }), (key, message) => {
        const signature = signK256(message, key);
        expect(signature[64]).toBeLessThan(2);
        expect(recoverK256(message, signature)).toEqual(k256PublicKey(key));
      }),
      { numRuns: 20 },
    );
    const signature = signK256(utf8('m'), new Uint8Array(32).fill(7));
    for (const v of [4, 27, 28, 255]) {
      expect(() => recoverK256(utf8('m'), Uint8Array.of(...signature.subarray(0, 64), v))).toThrow(KeysError);
    }
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
    const highS = (order - BigInt(`0x${toHex(signature.subarray(32, 64))}`)).toString(16).padStart(64, '0');
    const malleated = concatBytes(
      signature.subarray(0, 32),
      fromHex(highS),
      Uint8Array.of(signature[64]! ^ 1),
    );
    expect(() => recoverK256(utf8('m'), malleated)).toThrow(/high S/);
  });

  it('refuses secrets out of range', () => {
    for (const key of [new Uint8Array(32), new Uint8Array(32).fill(0xff), new Uint8Array(31)]) {
      expect(() => k256PublicKey(key)).toThrow(KeysError);
      expect(() => signK256(utf8('m'), key)).toThrow(KeysError);
    }
  });
});

describe('application keys', () => {
  const roots = { caScalar: new Uint8Array(32).fill(1), k256: new Uint8Array(32).fill(2) };

  it('want identifiers of exact length, because contexts are not framed', () => {
    for (const length of [0, 19, 21, 32]) {
      expect(() => deriveAppKeys(roots, new Uint8Array(length), new Uint8Array())).toThrow(
        /app_id must be 20 bytes/,
      );
    }
    for (const length of [1, 19, 21]) {
      expect(() => deriveAppKeys(roots, new Uint8Array(20), new Uint8Array(length))).toThrow(KeysError);
    }
  });

  it('a chain by another KMS, for another app or another purpose is refused', () => {
    const appId = new Uint8Array(20).fill(9);
    const keys = deriveAppKeys(roots, appId, new Uint8Array());
    const derived = getKey(keys.k256Key, 'path', 'purpose', 'ed25519');
    const good = {
      publicKey: derived.publicKey,
      purpose: 'purpose',
      signatureChain: [derived.signature, keys.k256Signature],
      appId,
      kmsPublicKey: k256PublicKey(roots.k256),
    };
    expect(verifySignatureChain(good)).toEqual(k256PublicKey(keys.k256Key));
    const attacks = [
      { kmsPublicKey: k256PublicKey(roots.caScalar) },
      { appId: new Uint8Array(20).fill(8) },
      { purpose: 'other' },
      { publicKey: new Uint8Array(32) },
      { signatureChain: [derived.signature] },
      { signatureChain: [derived.signature, new Uint8Array()] },
      { signatureChain: [derived.signature, keys.k256Signature, keys.k256Signature] },
    ];
    for (const attack of attacks)
      expect(() => verifySignatureChain({ ...good, ...attack })).toThrow(KeysError);
  });

  it('unknown algorithms', () => {
    for (const algorithm of ['secp256k1_prehashed', 'p256', 'K256', ' ']) {
      expect(() => getKey(roots.k256, '', '', algorithm)).toThrow('Unsupported algorithm');
    }
    expect(getKey(roots.k256, '', '', 'k256')).toEqual(getKey(roots.k256, '', '', ''));
  });
});

describe('signing data', () => {
  const key = new Uint8Array(32).fill(5);

  it('tells a wrong signature from a malformed one', () => {
    const signature = signData('k256', key, utf8('data'));
    expect(verifyData('secp256k1', utf8('data'), signature, k256PublicKey(key))).toBe(true);
    expect(verifyData('secp256k1', utf8('other'), signature, k256PublicKey(key))).toBe(false);
    const cases: Array<[Uint8Array, Uint8Array]> = [
      [signature.subarray(1), k256PublicKey(key)],
      [new Uint8Array(64), k256PublicKey(key)],
      [signature, new Uint8Array(33)],
      [signature, new Uint8Array(64)],
    ];
    for (const [bad, publicKey] of cases) {
      expect(() => verifyData('secp256k1', utf8('data'), bad, publicKey)).toThrow('signature error');
    }
    expect(() => signData('', key, utf8('data'))).toThrow('Unsupported algorithm');
    expect(() => verifyData('none', utf8('data'), signature, k256PublicKey(key))).toThrow(
      'Unsupported algorithm',
    );
    expect(() => signData('secp256k1_prehashed', key, utf8('data'))).toThrow(
      'Pre-hashed signing requires a 32-byte digest, but received 4 bytes',
    );
  });
});

describe('sealed environment', () => {
  const secretKey = new Uint8Array(32).fill(0x42);
  const recipient = x25519PublicKey(secretKey);

  // A value of an independent implementation, with the spacing of Python.
  it('equals the vector of the original command line', () => {
    const plaintext =
      '{"env": [{"key": "API_KEY", "value": "s3cr3t"}, {"key": "URL", "value": "postgres://u:p@h/db?x=1"}]}';
    const options = { ephemeral: new Uint8Array(32).fill(0x24), iv: fromHex('000102030405060708090a0b') };
    expect(toHex(recipient)).toBe('132c442be010fbd57e72603328aa76e71fccc1503aae219327d14d9c9993f472');
    expect(toHex(sealEnv(utf8(plaintext), recipient, options))).toBe(
      '04bcd2e0d00f2cce5fe8f1c6c2fbec5c07fa56e3aa5c88a5689975d88b3fce05000102030405060708090a0b41f4636c6950044693bf53a72fdd88396ee00d5cddaff88df3c02c1c59346ab6c3538929fc2decdeb99dfb3e237adc25c3289ba2b7b758684319ca8d0b2ff1091e4e52b7adb1403baf1e833625f10c5b0b425cacc9fcceb2ef3f4ba22cb82e709e005d9db65e05653aeb8961937dfc6b55949df6',
    );
  });

  it('opens what was sealed, and nothing else', () => {
    const sealed = encryptEnv([{ key: 'A', value: 'ü' }], recipient);
    expect(new TextDecoder().decode(decryptEnv(secretKey, sealed))).toBe('{"env":[{"key":"A","value":"ü"}]}');
    for (let i = 0; i < sealed.length; i += 7) {
      const broken = sealed.slice();
      broken[i]! ^= 1;
      expect(() => decryptEnv(secretKey, broken)).toThrow(KeysError);
    }
    expect(() => decryptEnv(new Uint8Array(32).fill(1), sealed)).toThrow('Decryption failed');
  });

  it.each([
    [31, 'Invalid ephemeral public key length'],
    [43, 'Invalid IV length'],
    [59, 'Invalid ciphertext length'],
  ])('names what is missing of %i bytes', (length, text) => {
    expect(() => decryptEnv(secretKey, new Uint8Array(length))).toThrow(text);
  });

  it('refuses public keys of small order', () => {
    for (const point of [new Uint8Array(32), Uint8Array.of(1, ...new Uint8Array(31))]) {
      expect(() => encryptEnv([], point)).toThrow(/small order/);
    }
  });
});

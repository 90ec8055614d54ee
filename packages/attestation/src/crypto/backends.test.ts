import { constants, createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { der, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import type { CryptoBackend, HashName, SignatureScheme } from './backend.ts';
import { keyKind } from './key-kind.ts';
import { nodeCrypto } from './node-crypto.ts';
import { VerificationCache } from './verification-cache.ts';
import { webCrypto } from './web-crypto.ts';

const spkiOf = (key: KeyObject): Uint8Array => new Uint8Array(key.export({ type: 'spki', format: 'der' }));
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const data = utf8('what was signed');

const CASES: [SignatureScheme, { publicKey: KeyObject; privateKey: KeyObject }][] = [
  ['ecdsa-sha256', p256],
  ['ecdsa-sha384', p256],
  ['ecdsa-sha256', p384],
  ['ecdsa-sha384', p384],
  ['ecdsa-sha512', p384],
  ['rsa-pkcs1-sha256', rsa],
  ['rsa-pkcs1-sha384', rsa],
  ['rsa-pss-sha256', rsa],
  ['rsa-pss-sha384', rsa],
];

function makeSignature(scheme: SignatureScheme, key: KeyObject): Uint8Array {
  const hash = scheme.slice(scheme.lastIndexOf('-') + 1);
  if (scheme.startsWith('ecdsa')) {
    return new Uint8Array(sign(hash, data, { key, dsaEncoding: 'ieee-p1363' }));
  }
  if (scheme.startsWith('rsa-pkcs1')) return new Uint8Array(sign(hash, data, key));
  const padding = constants.RSA_PKCS1_PSS_PADDING;
  return new Uint8Array(sign(hash, data, { key, padding, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }));
}

describe.each<[string, CryptoBackend]>([
  ['node', nodeCrypto],
  ['webcrypto', webCrypto],
])('%s backend', (_name, crypto) => {
  it.each(CASES)('%s', async (scheme, { publicKey, privateKey }) => {
    const key = await crypto.importKey(spkiOf(publicKey));
    const signature = makeSignature(scheme, privateKey);
    expect(await crypto.verify(key, scheme, signature, data)).toBe(true);
    expect(await crypto.verify(key, scheme, signature, utf8('something else'))).toBe(false);
    for (const at of [0, signature.length - 1]) {
      const changed = signature.slice();
      changed[at]! ^= 1;
      expect(await crypto.verify(key, scheme, changed, data)).toBe(false);
    }
    expect(await crypto.verify(key, scheme, signature.subarray(1), data)).toBe(false);
    expect(await crypto.verify(key, scheme, new Uint8Array(signature.length), data)).toBe(false);
    expect(await crypto.verify(key, scheme, new Uint8Array(), data)).toBe(false);
    const other: SignatureScheme = scheme.startsWith('rsa') ? 'ecdsa-sha256' : 'rsa-pkcs1-sha256';
    expect(await crypto.verify(key, other, signature, data)).toBe(false);
  });

  it.each<HashName>(['sha256', 'sha384', 'sha512'])('%s of parts', (name) => {
    const parts = [utf8('one'), new Uint8Array(), utf8('two'), new Uint8Array(70_000)];
    const expected = (list: Uint8Array[]) => createHash(name).update(Buffer.concat(list)).digest('hex');
    expect(toHex(crypto.hash(name))).toBe(expected([]));
    expect(toHex(crypto.hash(name, parts[0]!))).toBe(expected(parts.slice(0, 1)));
    expect(toHex(crypto.hash(name, ...parts.slice(0, 3)))).toBe(expected(parts.slice(0, 3)));
    expect(toHex(crypto.hash(name, ...parts))).toBe(expected(parts));
  });

  it('refuses points off the curve', async () => {
    for (const pair of [p256, p384]) {
      const spki = spkiOf(pair.publicKey);
      spki[spki.length - 1]! ^= 1;
      await expect(crypto.importKey(spki)).rejects.toMatchObject({ code: 'malformed' });
    }
  });
});

describe('accepted keys', () => {
  it('are P-256, P-384 and RSA of 2048 bits and more', () => {
    expect(keyKind(spkiOf(p256.publicKey))).toBe('p256');
    expect(keyKind(spkiOf(p384.publicKey))).toBe('p384');
    expect(keyKind(spkiOf(rsa.publicKey))).toBe('rsa');
  });

  it.each<[string, () => Uint8Array]>([
    ['P-521', () => spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey)],
    ['secp256k1', () => spkiOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey)],
    ['Ed25519', () => spkiOf(generateKeyPairSync('ed25519').publicKey)],
    ['RSA-1024', () => spkiOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey)],
    ['RSA with exponent 1', () => rsaSpki(2n ** 2047n + 1n, 1n)],
    ['explicit curve parameters', () => spkiOf(explicitCurve())],
    [
      'a compressed point',
      () => fromHex(`3039301306072a8648ce3d020106082a8648ce3d030107032200${'02'.repeat(33)}`),
    ],
    ['nothing', () => new Uint8Array()],
  ])('are not %s', (_name, spki) => {
    expect(() => keyKind(spki())).toThrow(expect.objectContaining({ name: 'AttestationError' }));
  });
});

describe('verification cache', () => {
  it('imports a key once, and remembers true answers only', async () => {
    let imports = 0;
    let checks = 0;
    const counting: CryptoBackend = {
      ...nodeCrypto,
      importKey: (spki) => {
        imports++;
        return nodeCrypto.importKey(spki);
      },
      verify: (...args) => {
        checks++;
        return nodeCrypto.verify(...args);
      },
    };
    const cache = new VerificationCache();
    const spki = spkiOf(p256.publicKey);
    const signature = makeSignature('ecdsa-sha256', p256.privateKey);
    for (let i = 0; i < 3; i++) {
      expect(await cache.verified(counting, 'ecdsa-sha256', spki.slice(), signature, data)).toBe(true);
    }
    expect([imports, checks]).toEqual([1, 1]);
    for (let i = 0; i < 3; i++) {
      expect(await cache.verified(counting, 'ecdsa-sha256', spki, signature, utf8('other'))).toBe(false);
    }
    expect([imports, checks]).toEqual([1, 4]);
  });

  it('takes a remembered signature for no other key, and for no buffer that was changed since', async () => {
    const cache = new VerificationCache();
    const signature = makeSignature('ecdsa-sha256', p256.privateKey);
    const spki = spkiOf(p256.publicKey);
    const signed = data.slice();
    const ask = (key: Uint8Array, bytes: Uint8Array) =>
      cache.verified(nodeCrypto, 'ecdsa-sha256', key, signature, bytes);
    expect(await ask(spki, signed)).toBe(true);
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    expect(await ask(spkiOf(other.publicKey), signed)).toBe(false);
    signed[0]! ^= 1;
    expect(await ask(spki, signed)).toBe(false);
    expect(await ask(spki, data)).toBe(true);
  });

  it('forgets failures, and shares a run that is under way', async () => {
    const cache = new VerificationCache();
    let runs = 0;
    const run = async () => {
      runs++;
      if (runs === 1) throw new Error('first');
      return runs;
    };
    await expect(cache.once(nodeCrypto, 'x', [data], run)).rejects.toThrow('first');
    const both = [cache.once(nodeCrypto, 'x', [data], run), cache.once(nodeCrypto, 'x', [data], run)];
    expect(await Promise.all(both)).toEqual([2, 2]);
    expect(await cache.once(nodeCrypto, 'x', [data, new Uint8Array()], run)).toBe(3);
  });
});

function rsaSpki(modulus: bigint, exponent: bigint): Uint8Array {
  const key = der.sequence(der.integer(modulus), der.integer(exponent));
  return der.sequence(der.sequence(der.oid('1.2.840.113549.1.1.1'), der.null()), der.bitString(key));
}

function explicitCurve(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey;
}

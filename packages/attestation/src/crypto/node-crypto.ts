import { constants, createHash, createPublicKey, hash, KeyObject, verify, webcrypto } from 'node:crypto';
import { AttestationError } from '../errors.ts';
import type { CryptoBackend, HashName, KeyKind, SignatureScheme, VerifyKey } from './backend.ts';
import { keyKind, SCALAR_SIZE } from './key-kind.ts';

/** node:crypto behind the promise API of `CryptoBackend`; with `attester/` the only user of node: imports here. */
export const nodeCrypto: CryptoBackend = {
  name: 'node',
  hash: hashParts,
  importKey: async (spki) => {
    const kind = keyKind(spki);
    try {
      return { kind, spki, handle: await importHandle(kind, spki) };
    } catch (cause) {
      throw new AttestationError('malformed', 'The public key cannot be imported', { cause });
    }
  },
  verify: async (key, scheme, signature, data) => verifySync(key, scheme, signature, data),
};

/**
 * Points by WebCrypto's raw import, which costs a third of OpenSSL's DER decoder and makes a key whose first use is
 * not slower than the next. It checks that the point is on the curve, which is enough: the curves have cofactor 1.
 */
async function importHandle(kind: KeyKind, spki: Uint8Array): Promise<KeyObject> {
  if (kind === 'rsa') return createPublicKey({ key: toBuffer(spki), format: 'der', type: 'spki' });
  // The prefix of `keyKind` ends with the 04 of an uncompressed point.
  const point = spki.subarray(spki.length - 2 * SCALAR_SIZE[kind] - 1);
  const key = await webcrypto.subtle.importKey('raw', point, ECDSA[kind], true, ['verify']);
  return KeyObject.from(key);
}

const ECDSA = {
  p256: { name: 'ECDSA', namedCurve: 'P-256' },
  p384: { name: 'ECDSA', namedCurve: 'P-384' },
} as const;

/** Above this many bytes parts are hashed one by one instead of being joined first. */
const JOIN_LIMIT = 3072;

/** The one-shot function through text is a third of the time of a Hash object. */
function hashParts(name: HashName, ...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  if (length <= JOIN_LIMIT) {
    const joined = parts.length === 1 ? parts[0]! : join(parts, length);
    return toBytes(Buffer.from(hash(name, joined, 'binary'), 'binary'));
  }
  const state = createHash(name);
  for (const part of parts) state.update(part);
  return toBytes(state.digest());
}

function join(parts: readonly Uint8Array[], length: number): Buffer {
  const joined = Buffer.allocUnsafe(length);
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

function verifySync(
  key: VerifyKey,
  scheme: SignatureScheme,
  signature: Uint8Array,
  data: Uint8Array,
): boolean {
  const name = scheme.slice(scheme.lastIndexOf('-') + 1);
  const handle = key.handle as KeyObject;
  if (scheme.startsWith('ecdsa-')) {
    if (key.kind === 'rsa' || signature.length !== 2 * SCALAR_SIZE[key.kind]) return false;
    return verify(name, data, { key: handle, dsaEncoding: 'ieee-p1363' }, signature);
  }
  if (key.kind !== 'rsa') return false;
  if (scheme.startsWith('rsa-pkcs1-')) {
    return verify(name, data, { key: handle, padding: constants.RSA_PKCS1_PADDING }, signature);
  }
  const saltLength = constants.RSA_PSS_SALTLEN_DIGEST;
  return verify(name, data, { key: handle, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }, signature);
}

function toBytes(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

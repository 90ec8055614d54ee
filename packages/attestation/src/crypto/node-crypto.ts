import { constants, createHash, createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { AttestationError } from '../errors.ts';
import type { CryptoBackend, HashName, SignatureScheme, VerifyKey } from './backend.ts';
import { keyKind, SCALAR_SIZE } from './key-kind.ts';

/** node:crypto behind the promise API of `CryptoBackend`; with `obtain/` the only user of node: imports here. */
export const nodeCrypto: CryptoBackend = {
  name: 'node',
  hash: hashParts,
  importKey: async (spki) => {
    const kind = keyKind(spki);
    try {
      return { kind, spki, handle: createPublicKey({ key: toBuffer(spki), format: 'der', type: 'spki' }) };
    } catch (cause) {
      throw new AttestationError('malformed', 'The public key cannot be imported', { cause });
    }
  },
  verify: async (key, scheme, signature, data) => verifySync(key, scheme, signature, data),
};

export const defaultCrypto: CryptoBackend = nodeCrypto;

function hashParts(name: HashName, ...parts: readonly Uint8Array[]): Uint8Array {
  const [only, second] = parts;
  if (only !== undefined && second === undefined) return toBytes(hash(name, only, 'buffer'));
  const state = createHash(name);
  for (const part of parts) state.update(part);
  return toBytes(state.digest());
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

import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js';
import { AttestationError } from '../errors.ts';
import type { CryptoBackend, HashName, KeyKind, SignatureScheme, VerifyKey } from './backend.ts';
import { keyKind, SCALAR_SIZE } from './key-kind.ts';

const HASHES = { sha256, sha384, sha512 } as const;
const WEB_HASH: Readonly<Record<HashName, string>> = {
  sha256: 'SHA-256',
  sha384: 'SHA-384',
  sha512: 'SHA-512',
};
const SALT_LENGTH: Readonly<Record<HashName, number>> = { sha256: 32, sha384: 48, sha512: 64 };

type WebKey = Awaited<ReturnType<typeof globalThis.crypto.subtle.importKey>>;

/** WebCrypto binds an RSA key to one padding and hash at import, hence one handle per scheme. */
type Handles = Map<string, Promise<WebKey>>;

/** WebCrypto for signatures, noble for hashes: browsers and workers, and Node without node: imports. */
export const webCrypto: CryptoBackend = {
  name: 'webcrypto',
  hash: (name, ...parts) => {
    const state = HASHES[name].create();
    for (const part of parts) state.update(part);
    return state.digest();
  },
  importKey: async (spki) => {
    const key: VerifyKey = { kind: keyKind(spki), spki, handle: new Map() satisfies Handles };
    // Imports at once for curves, so that a point off the curve is refused here and not at its first use.
    if (key.kind !== 'rsa') await webKey(key, key.kind === 'p256' ? 'ecdsa-sha256' : 'ecdsa-sha384');
    return key;
  },
  verify: async (key, scheme, signature, data) => {
    if (scheme.startsWith('ecdsa-') === (key.kind === 'rsa')) return false;
    if (key.kind !== 'rsa' && signature.length !== 2 * SCALAR_SIZE[key.kind]) return false;
    const handle = await webKey(key, scheme);
    return globalThis.crypto.subtle.verify(
      verifyParameters(scheme),
      handle,
      ownBuffer(signature),
      ownBuffer(data),
    );
  },
};

function webKey(key: VerifyKey, scheme: SignatureScheme): Promise<WebKey> {
  const handles = key.handle as Handles;
  const id = key.kind === 'rsa' ? scheme : 'ecdsa';
  const known = handles.get(id);
  if (known) return known;
  const parameters = importParameters(key.kind, scheme);
  const imported = globalThis.crypto.subtle
    .importKey('spki', ownBuffer(key.spki), parameters, false, ['verify'])
    .catch((cause: unknown) => {
      throw new AttestationError('malformed', 'The public key cannot be imported', { cause });
    });
  handles.set(id, imported);
  return imported;
}

function importParameters(kind: KeyKind, scheme: SignatureScheme) {
  if (kind === 'p256') return { name: 'ECDSA', namedCurve: 'P-256' };
  if (kind === 'p384') return { name: 'ECDSA', namedCurve: 'P-384' };
  const name = scheme.startsWith('rsa-pss-') ? 'RSA-PSS' : 'RSASSA-PKCS1-v1_5';
  return { name, hash: WEB_HASH[hashOf(scheme)] };
}

function verifyParameters(scheme: SignatureScheme) {
  const hash = hashOf(scheme);
  if (scheme.startsWith('ecdsa-')) return { name: 'ECDSA', hash: WEB_HASH[hash] };
  if (scheme.startsWith('rsa-pss-')) return { name: 'RSA-PSS', saltLength: SALT_LENGTH[hash] };
  return { name: 'RSASSA-PKCS1-v1_5' };
}

function hashOf(scheme: SignatureScheme): HashName {
  return scheme.slice(scheme.lastIndexOf('-') + 1) as HashName;
}

/** A copy that owns its buffer: browsers refuse views of shared memory. */
function ownBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

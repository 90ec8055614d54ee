import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { concatBytes, utf8 } from '@dstack-cloud/encoding';
import { expectLength, KeysError } from './errors.ts';
import { x25519PublicKey, x25519SharedSecret } from './x25519.ts';

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** Longest sealed environment, well above the limit of the host-shared file. */
const MAX_SEALED_BYTES = 16 << 20;

export interface EnvVariable {
  readonly key: string;
  readonly value: string;
}

export interface SealOptions {
  /** Ephemeral X25519 secret, 32 bytes; random by default and never to be used twice. */
  readonly ephemeral?: Uint8Array;
  /** AES-GCM nonce, 12 bytes; random by default. */
  readonly iv?: Uint8Array;
}

/** Seals environment variables to an application's public key (docs/protocol/keys.md section 7). */
export function encryptEnv(
  variables: readonly EnvVariable[],
  recipient: Uint8Array,
  options: SealOptions = {},
): Uint8Array {
  return sealEnv(envDocument(variables), recipient, options);
}

/** How many bytes {@link encryptEnv} makes of these variables. */
export function sealedEnvLength(variables: readonly EnvVariable[]): number {
  return KEY_BYTES + IV_BYTES + envDocument(variables).length + TAG_BYTES;
}

function envDocument(variables: readonly EnvVariable[]): Uint8Array {
  return utf8(JSON.stringify({ env: variables.map(({ key, value }) => ({ key, value })) }));
}

/** Seals bytes: `ephemeral public key (32) || IV (12) || AES-256-GCM ciphertext || tag (16)`. */
export function sealEnv(plaintext: Uint8Array, recipient: Uint8Array, options: SealOptions = {}): Uint8Array {
  const ephemeral = options.ephemeral ?? randomBytes(KEY_BYTES);
  const iv = options.iv ?? randomBytes(IV_BYTES);
  expectLength('IV', iv, IV_BYTES);
  const shared = x25519SharedSecret(ephemeral, recipient);
  const cipher = createCipheriv('aes-256-gcm', shared, iv, { authTagLength: TAG_BYTES });
  const sealed = concatBytes(cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
  shared.fill(0);
  return concatBytes(x25519PublicKey(ephemeral), iv, sealed);
}

/**
 * Opens a sealed environment; gives the plaintext, a JSON text.
 * @param secret `env_crypt_key` of the application, 32 bytes
 * @throws KeysError with the texts of the original
 */
export function decryptEnv(secret: Uint8Array, sealed: Uint8Array): Uint8Array {
  if (sealed.length < KEY_BYTES) throw new KeysError('invalid-length', 'Invalid ephemeral public key length');
  if (sealed.length < KEY_BYTES + IV_BYTES) throw new KeysError('invalid-length', 'Invalid IV length');
  if (sealed.length < KEY_BYTES + IV_BYTES + TAG_BYTES || sealed.length > MAX_SEALED_BYTES) {
    throw new KeysError('invalid-length', 'Invalid ciphertext length');
  }
  const shared = x25519SharedSecret(secret, sealed.subarray(0, KEY_BYTES));
  const iv = sealed.subarray(KEY_BYTES, KEY_BYTES + IV_BYTES);
  const tagStart = sealed.length - TAG_BYTES;
  try {
    const decipher = createDecipheriv('aes-256-gcm', shared, iv, { authTagLength: TAG_BYTES });
    decipher.setAuthTag(sealed.subarray(tagStart));
    const body = sealed.subarray(KEY_BYTES + IV_BYTES, tagStart);
    return concatBytes(decipher.update(body), decipher.final());
  } catch (cause) {
    throw new KeysError(
      'decryption-failed',
      'Decryption failed: the key or the sealed environment is wrong',
      { cause },
    );
  } finally {
    shared.fill(0);
  }
}

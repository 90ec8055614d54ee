import { createHmac } from 'node:crypto';
import { KeysError } from './errors.ts';

const SALT = 'RATLS';
const HASH_BYTES = 32;
const MAX_LENGTH = 255 * HASH_BYTES;

/** A context of a derivation: bytes, or a text that stands for its UTF-8 bytes. */
export type Context = Uint8Array | string;

/**
 * The KDF of docs/protocol/keys.md section 2.1: HKDF-SHA256 (RFC 5869) with salt `RATLS`; info is the contexts joined
 * without separators. Written on HMAC because `crypto.hkdfSync` limits info to 1024 bytes and an application chooses
 * the path.
 * @param length bytes wanted, 1 to 8160
 */
export function hkdf(ikm: Uint8Array, contexts: readonly Context[], length: number): Uint8Array {
  if (!Number.isInteger(length) || length < 1 || length > MAX_LENGTH) {
    throw new KeysError('invalid-length', `HKDF cannot give ${length} bytes`);
  }
  const pseudoRandomKey = createHmac('sha256', SALT).update(ikm).digest();
  const out = new Uint8Array(length);
  let block: Uint8Array = new Uint8Array();
  for (let counter = 1, offset = 0; offset < length; counter++, offset += HASH_BYTES) {
    const hmac = createHmac('sha256', pseudoRandomKey).update(block);
    for (const context of contexts) hmac.update(context);
    block = hmac.update(Uint8Array.of(counter)).digest();
    out.set(block.subarray(0, length - offset), offset);
  }
  pseudoRandomKey.fill(0);
  block.fill(0);
  return out;
}

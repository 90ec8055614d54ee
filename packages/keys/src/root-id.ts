import { createHash } from 'node:crypto';
import { expectLength } from './errors.ts';

/**
 * Names a root of a KMS: the first 20 bytes of SHA-256 of its compressed k256 public key. Short enough for a folder's
 * name and a configuration, and nobody can make another root with the same one.
 * @param k256Public 33 bytes
 * @throws KeysError for another length
 */
export function rootId(k256Public: Uint8Array): Uint8Array {
  expectLength('k256 public key', k256Public, 33);
  return new Uint8Array(createHash('sha256').update(k256Public).digest().subarray(0, 20));
}

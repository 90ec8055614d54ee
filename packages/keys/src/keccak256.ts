import { concatBytes } from '@dstack-cloud/encoding';
import { keccak_256 } from '@noble/hashes/sha3.js';

/** Keccak-256 with the padding of Ethereum (not SHA3-256) of the parts, one after the other; 32 bytes. */
export function keccak256(...parts: Uint8Array[]): Uint8Array {
  return keccak_256(parts.length === 1 ? parts[0]! : concatBytes(...parts));
}

import { padRight, toHex, utf8 } from '@dstack-cloud/encoding';
import { expectLength } from './errors.ts';
import { keccak256 } from './keccak256.ts';

/**
 * Report data (64 bytes) that binds the root keys of a KMS to its evidence (docs/protocol/keys.md section 6).
 * @param caSpki DER SubjectPublicKeyInfo of the root CA, 91 bytes
 * @param k256PublicKey compressed, 33 bytes
 */
export function bootstrapReportData(caSpki: Uint8Array, k256PublicKey: Uint8Array): Uint8Array {
  expectLength('Root CA public key', caSpki, 91);
  expectLength('k256 public key', k256PublicKey, 33);
  // The spelling "genereted" is part of the protocol.
  const text = `dstack-kms-genereted-keys-v1:${toHex(caSpki)};${toHex(k256PublicKey)};`;
  return padRight(keccak256(utf8(text)), 64);
}

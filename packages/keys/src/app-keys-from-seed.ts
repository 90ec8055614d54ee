import { createHash } from 'node:crypto';
import { deriveP256Key } from './derive.ts';
import { expectLength } from './errors.ts';
import { hkdf } from './hkdf.ts';
import type { P256Key } from './p256-key.ts';

/** Keys of a workload without a KMS; there is no environment key and nobody signs for the k256 key. */
export interface SeedKeys {
  /** Key of the workload's own certificate authority. */
  readonly appKey: P256Key;
  readonly diskCryptKey: Uint8Array;
  readonly envCryptKey: Uint8Array;
  readonly k256Key: Uint8Array;
  readonly k256Signature: Uint8Array;
}

/** Keys from a sealed 32-byte seed (docs/protocol/keys.md section 3.2: key providers local, tpm and none). */
export function appKeysFromSeed(seed: Uint8Array): SeedKeys {
  expectLength('Seed', seed, 32);
  const disk = deriveP256Key(seed, ['app-disk-key']);
  return {
    appKey: deriveP256Key(seed, ['app-key']),
    diskCryptKey: new Uint8Array(createHash('sha256').update(disk.pkcs8).digest()),
    envCryptKey: new Uint8Array(),
    k256Key: hkdf(seed, ['app-k256-key'], 32),
    k256Signature: new Uint8Array(),
  };
}

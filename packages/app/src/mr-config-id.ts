import { concatBytes, equalBytes, isZero, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { AppError } from './errors.ts';
import type { AppId, ComposeHash } from './ids.ts';
import type { KeyProviderKind } from './key-provider.ts';

/** Length of MRCONFIGID in a TD report. */
export const MR_CONFIG_ID_LENGTH = 48;

const KIND: Readonly<Record<KeyProviderKind, number>> = { none: 0, local: 1, kms: 2, tpm: 3 };

/** What a boot knows about itself when it compares MRCONFIGID. */
export interface MrConfigClaims {
  readonly composeHash: ComposeHash;
  readonly appId: AppId;
  readonly keyProvider: KeyProviderKind;
  /** SPKI DER of the KMS root for kms, MRENCLAVE for local, SPKI DER of the app key for tpm, empty for none */
  readonly keyProviderId: Uint8Array;
}

function form(version: number, hash: Uint8Array): Uint8Array {
  const value = new Uint8Array(MR_CONFIG_ID_LENGTH);
  value[0] = version;
  value.set(hash, 1);
  return value;
}

/** Form 1: the compose hash. */
export function mrConfigIdV1(composeHash: ComposeHash): Uint8Array {
  return form(1, composeHash);
}

/** Form 2: Keccak-256(compose hash || app id || kind || key provider id). */
export function mrConfigIdV2(claims: MrConfigClaims): Uint8Array {
  const kind = Uint8Array.of(KIND[claims.keyProvider]);
  return form(2, keccak256(concatBytes(claims.composeHash, claims.appId, kind, claims.keyProviderId)));
}

/**
 * Compares the MRCONFIGID of the own TD report with what the boot knows; all zero means that it is not used.
 *
 * @throws AppError `mr-config-id-mismatch` for another value, another form, or another length
 */
export function checkMrConfigId(value: Uint8Array, claims: MrConfigClaims): void {
  if (value.length === MR_CONFIG_ID_LENGTH && isZero(value)) return;
  const expected = expectedForm(value[0], claims);
  if (expected !== undefined && equalBytes(value, expected)) return;
  throw new AppError(
    'mr-config-id-mismatch',
    expected === undefined
      ? `MRCONFIGID has the unknown form ${value[0]}`
      : 'MRCONFIGID does not match the application: the host started this VM for another app-compose or key provider',
    { expected: expected === undefined ? 'form 1 or 2, or all zero' : toHex(expected), found: toHex(value) },
  );
}

function expectedForm(version: number | undefined, claims: MrConfigClaims): Uint8Array | undefined {
  if (version === 1) return mrConfigIdV1(claims.composeHash);
  if (version === 2) return mrConfigIdV2(claims);
  return undefined;
}

import { createHash, randomBytes } from 'node:crypto';
import { concatBytes, equalConstantTime, fromHex, toHex } from '@dstack-cloud/encoding';
import { k256PublicKey, p256KeyFromScalar } from '@dstack-cloud/keys';
import { KmsError } from '../errors.ts';
import type { KmsKeys } from '../key-directory/kms-keys.ts';
import type { SharedKeys } from '../key-directory/new-keys.ts';
import { joinShares, splitSecret } from './shamir.ts';
import { type BackupHeader, type OpenedShare, sealShare } from './share-file.ts';

const CHECK_BYTES = 16;
const SECRET_BYTES = 3 * 32 + CHECK_BYTES;

/**
 * Splits the root keys among custodians. Any `threshold` of them can restore the KMS, fewer learn nothing.
 * @param recipients X25519 public keys, 32 bytes each
 * @returns texts of the share files, in the order of the recipients
 * @throws KmsError `backup-invalid`
 */
export function backupShares(
  keys: Pick<KmsKeys, 'roots' | 'rootCa' | 'tempCa' | 'k256Pubkey'>,
  threshold: number,
  recipients: readonly Uint8Array[],
): string[] {
  if (new Set(recipients.map(toHex)).size !== recipients.length) {
    throw new KmsError('backup-invalid', 'Each recipient must be named once: one custodian, one share');
  }
  const scalars = concatBytes(keys.roots.caScalar, keys.roots.k256, keys.tempCa.key.scalar);
  const secret = concatBytes(scalars, checksum(scalars));
  const header: BackupHeader = {
    set: toHex(new Uint8Array(randomBytes(16))),
    threshold,
    k256_pubkey: toHex(keys.k256Pubkey),
    ca_pubkey: toHex(keys.rootCa.key.spki),
  };
  try {
    return splitSecret(secret, threshold, recipients.length).map((share, position) =>
      sealShare(header, share, recipients[position]!),
    );
  } finally {
    secret.fill(0);
    scalars.fill(0);
  }
}

/**
 * The root keys of opened shares, checked against the public keys that the shares name.
 * @throws KmsError `backup-invalid` for too few shares, shares of several backups, or wrong ones
 */
export function restoreKeys(shares: readonly OpenedShare[]): SharedKeys {
  const [first] = shares;
  if (first === undefined || shares.length < first.threshold) {
    throw new KmsError(
      'backup-invalid',
      `${shares.length} shares are too few; ${first?.threshold ?? 2} are needed`,
    );
  }
  if (shares.some(({ set, threshold }) => set !== first.set || threshold !== first.threshold)) {
    throw new KmsError('backup-invalid', 'The shares are of different backups');
  }
  const secret = joinShares(shares);
  const scalars = secret.subarray(0, SECRET_BYTES - CHECK_BYTES);
  if (
    secret.length !== SECRET_BYTES ||
    !equalConstantTime(secret.subarray(scalars.length), checksum(scalars))
  ) {
    throw new KmsError('backup-invalid', 'The shares do not give the keys: one of them was changed');
  }
  const shared = {
    ca: p256KeyFromScalar(scalars.slice(0, 32)),
    k256: scalars.slice(32, 64),
    tempCa: p256KeyFromScalar(scalars.slice(64, 96)),
  };
  secret.fill(0);
  const matches =
    equalConstantTime(k256PublicKey(shared.k256), fromHex(first.k256_pubkey)) &&
    equalConstantTime(shared.ca.spki, fromHex(first.ca_pubkey));
  if (!matches) throw new KmsError('backup-invalid', 'The restored keys are not those that the shares name');
  return shared;
}

function checksum(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update('dstack-kms-backup').update(bytes).digest()).subarray(
    0,
    CHECK_BYTES,
  );
}

import { randomBytes } from 'node:crypto';
import { concatBytes, toHex } from '@dstack-cloud/encoding';
import { k256PublicKey, p256KeyFromScalar, type RootKeys } from '@dstack-cloud/keys';
import { Encrypter } from 'age-encryption';
import { split } from 'shamir-secret-sharing';
import { KmsError } from '../errors.ts';
import type { Recipient } from './recipient.ts';
import type { BackupShare } from './share.ts';

/** The secrets that a KMS cannot make again. */
export type BackupRoots = {
  /** 32 bytes each. */
  readonly caScalar: Uint8Array;
  readonly tempCaScalar: Uint8Array;
  readonly k256: Uint8Array;
  /** Retired roots, the newest first. */
  readonly history: readonly RootKeys[];
};

/** One encrypted share, to be handed to its recipient. */
export type ShareFile = { readonly name: string; readonly data: Uint8Array };

/**
 * Splits the root keys so that any `threshold` recipients together can restore them and fewer learn nothing.
 * @throws KmsError `backup-invalid` for a threshold or a list of recipients that makes no backup
 */
export async function splitRoots(
  roots: BackupRoots,
  threshold: number,
  recipients: readonly Recipient[],
  now: number,
): Promise<ShareFile[]> {
  if (
    !Number.isInteger(threshold) ||
    threshold < 2 ||
    threshold > recipients.length ||
    recipients.length > 255
  ) {
    throw new KmsError(
      'backup-invalid',
      `A backup needs 2 <= threshold <= recipients <= 255; found ${threshold} of ${recipients.length}`,
    );
  }
  for (const field of ['name', 'ageRecipient'] as const) {
    if (new Set(recipients.map((recipient) => recipient[field])).size !== recipients.length) {
      throw new KmsError(
        'backup-invalid',
        `Two recipients have the same ${field === 'ageRecipient' ? 'key' : 'name'}`,
      );
    }
  }
  const retired = roots.history.flatMap(({ caScalar, k256 }) => [caScalar, k256]);
  const secret = concatBytes(roots.caScalar, roots.tempCaScalar, roots.k256, ...retired);
  const shares = await split(secret, recipients.length, threshold);
  secret.fill(0);
  const common = {
    ...(roots.history.length === 0
      ? { version: 1 as const }
      : { version: 2 as const, history: roots.history.map(namesOf) }),
    set: randomBytes(16).toString('hex'),
    threshold,
    total: recipients.length,
    created: now,
    ...namesOf(roots),
    temp_ca_pubkey: toHex(p256KeyFromScalar(roots.tempCaScalar).spki),
  };
  return Promise.all(
    recipients.map(async ({ name, ageRecipient }, index) => {
      const share: BackupShare = { ...common, recipient: name, share: toHex(shares[index]!) };
      return {
        name: `kms-share-${name}.age`,
        data: await encryptTo(ageRecipient, name, JSON.stringify(share)),
      };
    }),
  );
}

async function encryptTo(ageRecipient: string, name: string, text: string): Promise<Uint8Array> {
  try {
    const encrypter = new Encrypter();
    encrypter.addRecipient(ageRecipient);
    return await encrypter.encrypt(text);
  } catch (cause) {
    // A point of low order, all zero for instance, agrees on no secret.
    throw new KmsError('backup-invalid', `Nothing can be encrypted to the key of recipient ${name}`, {
      cause,
    });
  }
}

/** Public keys of a root. @throws KeysError for scalars out of range */
export function namesOf({ caScalar, k256 }: RootKeys): { ca_pubkey: string; k256_pubkey: string } {
  return { ca_pubkey: toHex(p256KeyFromScalar(caScalar).spki), k256_pubkey: toHex(k256PublicKey(k256)) };
}

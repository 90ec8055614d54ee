import { z } from 'zod';
import { KmsError } from '../errors.ts';

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));

/** What one decrypted share file holds. Everything but `share` is public. */
export type BackupShare = {
  readonly version: 1;
  /** The same in all shares of one backup, 16 bytes hex. */
  readonly set: string;
  readonly threshold: number;
  readonly total: number;
  readonly recipient: string;
  /** Unix seconds. */
  readonly created: number;
  /** DER SubjectPublicKeyInfo of the root CA, hex, 91 bytes: which KMS this restores. */
  readonly ca_pubkey: string;
  /** The same of the temporary CA: a share that was forged in this part restores nothing either. */
  readonly temp_ca_pubkey: string;
  /** Compressed root key, hex, 33 bytes. */
  readonly k256_pubkey: string;
  /** One Shamir share (GF(256)) of root CA scalar || temp CA scalar || k256 root, hex, 97 bytes. */
  readonly share: string;
};

const schema = z.strictObject({
  version: z.literal(1),
  set: hex(16),
  threshold: z.number().int().min(2).max(255),
  total: z.number().int().min(2).max(255),
  recipient: z.string().max(64),
  created: z.number().int().nonnegative(),
  ca_pubkey: hex(91),
  temp_ca_pubkey: hex(91),
  k256_pubkey: hex(33),
  share: hex(97),
});

/** @throws KmsError `backup-invalid` */
export function parseShare(text: string): BackupShare {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new KmsError('backup-invalid', 'A share is no JSON');
  }
  const parsed = schema.safeParse(value);
  // zod's text could quote the share: name only the fields.
  if (!parsed.success) {
    const fields = parsed.error.issues.map(({ path }) => path.join('.')).join(', ');
    throw new KmsError('backup-invalid', `A share has wrong or missing fields: ${fields}`);
  }
  return parsed.data;
}

import { z } from 'zod';
import { KmsError } from '../errors.ts';
import { MAX_RETIRED_ROOTS } from '../key-directory/load-history.ts';

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));

/** What one decrypted share file holds. Everything but `share` is public. */
export type BackupShare = {
  /** 1 without retired roots, as older versions read it. */
  readonly version: 1 | 2;
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
  readonly temp_ca_pubkey?: string | undefined;
  /** Compressed root key, hex, 33 bytes. */
  readonly k256_pubkey: string;
  /** Public keys of the retired roots, the newest first; in version 2 alone. */
  readonly history?: readonly { readonly ca_pubkey: string; readonly k256_pubkey: string }[] | undefined;
  /**
   * One Shamir share (GF(256)) of root CA scalar || temp CA scalar || k256 root, then CA scalar || k256 root of each
   * retired root; hex, 97 bytes and 64 for each retired root.
   */
  readonly share: string;
};

const names = { ca_pubkey: hex(91), k256_pubkey: hex(33) };
const common = {
  set: hex(16),
  threshold: z.number().int().min(2).max(255),
  total: z.number().int().min(2).max(255),
  recipient: z.string().max(64),
  created: z.number().int().nonnegative(),
  ...names,
  share: z.string().regex(/^([0-9a-f]{2})+$/),
};
const schema = z
  .discriminatedUnion('version', [
    z.strictObject({ version: z.literal(1), ...common, temp_ca_pubkey: hex(91).optional() }),
    z.strictObject({
      version: z.literal(2),
      ...common,
      temp_ca_pubkey: hex(91),
      history: z.array(z.strictObject(names)).min(1).max(MAX_RETIRED_ROOTS),
    }),
  ])
  .refine((share) => share.share.length === 2 * shareBytes('history' in share ? share.history.length : 0), {
    path: ['share'],
  });

/** Length of the secret of a backup: two scalars and a key, and two for each retired root. */
export function secretBytes(retired: number): number {
  return 96 + 64 * retired;
}

/** A Shamir share is one byte longer than its secret. */
function shareBytes(retired: number): number {
  return secretBytes(retired) + 1;
}

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

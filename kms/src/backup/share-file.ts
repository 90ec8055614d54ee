import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { concatBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { hkdf, x25519PublicKey, x25519SharedSecret } from '@dstack-cloud/keys';
import { z } from 'zod';
import { KmsError } from '../errors.ts';
import type { Share } from './shamir.ts';

const hex = (bytes: number): z.ZodString => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
const header = {
  version: z.literal(1),
  /** The same for all shares of one backup. */
  set: hex(16),
  threshold: z.int().min(2).max(255),
  index: z.int().min(1).max(255),
  k256_pubkey: hex(33),
  ca_pubkey: hex(91),
};
const sealedSchema = z.strictObject({
  ...header,
  recipient: hex(32),
  ephemeral: hex(32),
  iv: hex(12),
  sealed: z.string().regex(/^([0-9a-f]{2}){17,512}$/),
});
const openedSchema = z.strictObject({ ...header, share: z.string().regex(/^([0-9a-f]{2}){1,512}$/) });

/** What every share says openly about its backup. */
export type BackupHeader = {
  readonly set: string;
  readonly threshold: number;
  readonly k256_pubkey: string;
  readonly ca_pubkey: string;
};

/** A share that its custodian has opened. */
export type OpenedShare = BackupHeader & Share;

/**
 * A share, sealed to one custodian: X25519 with an ephemeral key, HKDF, AES-256-GCM; the header is authenticated.
 * @param recipient X25519 public key, 32 bytes
 * @returns text of the share file
 */
export function sealShare(backup: BackupHeader, share: Share, recipient: Uint8Array): string {
  const secret = new Uint8Array(randomBytes(32));
  const ephemeral = x25519PublicKey(secret);
  const iv = new Uint8Array(randomBytes(12));
  const open = { version: 1 as const, ...backup, index: share.index };
  const cipher = createCipheriv('aes-256-gcm', sealKey(secret, recipient, ephemeral, recipient), iv);
  cipher.setAAD(utf8(JSON.stringify(open)));
  const sealed = concatBytes(cipher.update(share.data), cipher.final(), cipher.getAuthTag());
  const file = {
    ...open,
    recipient: toHex(recipient),
    ephemeral: toHex(ephemeral),
    iv: toHex(iv),
    sealed: toHex(sealed),
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

/** Opens a share with its custodian's X25519 secret. @returns text of the opened share. @throws KmsError */
export function openShare(text: string, identity: Uint8Array): string {
  const { recipient, ephemeral, iv, sealed, ...open } = parse(text, sealedSchema, 'share file');
  const own = x25519PublicKey(identity);
  if (toHex(own) !== recipient) {
    throw new KmsError('backup-invalid', `This share is for ${recipient}, the identity is ${toHex(own)}`);
  }
  const bytes = fromHex(sealed);
  const key = sealKey(identity, fromHex(ephemeral), fromHex(ephemeral), own);
  const decipher = createDecipheriv('aes-256-gcm', key, fromHex(iv), { authTagLength: 16 });
  const { version, set, threshold, k256_pubkey, ca_pubkey, index } = open;
  decipher.setAAD(utf8(JSON.stringify({ version, set, threshold, k256_pubkey, ca_pubkey, index })));
  decipher.setAuthTag(bytes.subarray(-16));
  try {
    const share = concatBytes(decipher.update(bytes.subarray(0, -16)), decipher.final());
    return `${JSON.stringify({ ...open, share: toHex(share) }, null, 2)}\n`;
  } catch (cause) {
    throw new KmsError('backup-invalid', 'The share was changed or damaged', { cause });
  }
}

/** Reads an opened share. @throws KmsError */
export function readOpenedShare(text: string): OpenedShare {
  const { share, version: _version, ...rest } = parse(text, openedSchema, 'opened share');
  return { ...rest, data: fromHex(share) };
}

function sealKey(
  secret: Uint8Array,
  peer: Uint8Array,
  ephemeral: Uint8Array,
  recipient: Uint8Array,
): Uint8Array {
  return hkdf(x25519SharedSecret(secret, peer), [utf8('dstack-kms-backup-share'), ephemeral, recipient], 32);
}

function parse<T>(text: string, schema: z.ZodType<T>, what: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new KmsError('backup-invalid', `This is no ${what} of dstack-kms backup`, { cause });
  }
}

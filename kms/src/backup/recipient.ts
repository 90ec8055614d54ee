import { fromHex, toHex } from '@dstack-cloud/encoding';
import { bech32 } from '@scure/base';
import { KmsError } from '../errors.ts';

/** Who keeps a share: a name for people, and an age X25519 recipient. */
export type Recipient = { readonly name: string; readonly ageRecipient: string };

const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;
const KEY_BYTES = 32;

/**
 * Reads `NAME=age1…` or `NAME=x25519:<64 hex digits>`.
 * @throws KmsError `backup-invalid`
 */
export function parseRecipient(text: string): Recipient {
  const at = text.indexOf('=');
  const name = text.slice(0, at);
  if (at < 1 || !NAME.test(name)) {
    throw new KmsError('backup-invalid', `Recipient "${text}" is not NAME=age1… or NAME=x25519:HEX`);
  }
  return { name, ageRecipient: ageRecipient(text.slice(at + 1), name) };
}

function ageRecipient(key: string, name: string): string {
  try {
    if (key.startsWith('x25519:')) {
      const bytes = fromHex(key.slice('x25519:'.length).toLowerCase(), { length: KEY_BYTES });
      return bech32.encodeFromBytes('age', bytes);
    }
    const { prefix, bytes } = bech32.decodeToBytes(key);
    if (prefix !== 'age' || bytes.length !== KEY_BYTES) throw new Error('not an X25519 recipient');
    // Bech32 may be all upper case; age itself takes lower case only.
    return key.toLowerCase();
  } catch (cause) {
    throw new KmsError('backup-invalid', `The key of recipient ${name} is no age or X25519 public key`, {
      cause,
    });
  }
}

/**
 * Identities for age, from the text of an identity file (one a line; comment lines are skipped) or 64 hex digits of an
 * X25519 secret.
 * @throws KmsError `backup-invalid`
 */
export function parseIdentities(text: string): string[] {
  const lines = text
    .split('\n')
    .map((part) => part.trim())
    .filter((part) => part !== '' && !part.startsWith('#'));
  if (lines.length > 0) return lines.map(identityOf);
  throw new KmsError('backup-invalid', 'The identity file holds no identity');
}

function identityOf(line: string): string {
  if (line.startsWith('AGE-SECRET-KEY-1')) return line;
  if (/^[0-9a-fA-F]{64}$/.test(line)) {
    return bech32.encodeFromBytes('AGE-SECRET-KEY-', fromHex(line.toLowerCase())).toUpperCase();
  }
  // The text may be a secret: it is not shown.
  throw new KmsError(
    'backup-invalid',
    'The identity file holds neither an age identity nor an X25519 secret in hex',
  );
}

/** The hex form of an age recipient's key, for a table. */
export function recipientKeyHex(ageRecipient: string): string {
  return toHex(bech32.decodeToBytes(ageRecipient).bytes);
}

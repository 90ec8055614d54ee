import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { p256KeyFromScalar } from '@dstack-cloud/keys';
import { armor, Decrypter } from 'age-encryption';
import { combine } from 'shamir-secret-sharing';
import { KmsError } from '../errors.ts';
import { type BackupShare, parseShare, secretBytes } from './share.ts';
import { type BackupRoots, namesOf } from './split-roots.ts';

const ARMOR = utf8('-----BEGIN AGE ENCRYPTED FILE-----');

/** A share that went through a mail or a chat is in the text form of age. */
function binaryOf(data: Uint8Array): Uint8Array {
  const isArmored = ARMOR.every((byte, index) => data[index] === byte);
  return isArmored ? armor.decode(new TextDecoder().decode(data)) : data;
}

/**
 * Decrypts one share file with the recipient's identity.
 * @throws KmsError `backup-invalid`
 */
export async function openShare(data: Uint8Array, identity: string): Promise<BackupShare> {
  const decrypter = new Decrypter();
  let text: string;
  try {
    decrypter.addIdentity(identity);
    text = await decrypter.decrypt(binaryOf(data), 'text');
  } catch (cause) {
    throw new KmsError('backup-invalid', 'A share cannot be decrypted with this identity', { cause });
  }
  return parseShare(text);
}

/**
 * The root keys from at least `threshold` shares of one backup. What comes out is checked against the public keys
 * that every share names, so a wrong or forged share cannot give other roots.
 * @throws KmsError `backup-invalid`
 */
export async function combineRoots(shares: readonly BackupShare[]): Promise<BackupRoots> {
  const first = shares[0];
  if (first === undefined) throw new KmsError('backup-invalid', 'No share was given');
  const same = (share: BackupShare): boolean =>
    share.set === first.set && share.threshold === first.threshold && publicKeys(share) === publicKeys(first);
  if (!shares.every(same)) throw new KmsError('backup-invalid', 'The shares are not of one backup');
  const distinct = [...new Map(shares.map((share) => [share.share, share])).values()];
  if (distinct.length < first.threshold) {
    throw new KmsError(
      'backup-invalid',
      `${first.threshold} different shares are needed, ${distinct.length} were given`,
    );
  }
  let secret: Uint8Array;
  try {
    secret = await combine(distinct.map(({ share }) => fromHex(share)));
  } catch (cause) {
    throw new KmsError('backup-invalid', 'The shares do not combine', { cause });
  }
  const retired = first.history?.length ?? 0;
  const isWhole = secret.length === secretBytes(retired);
  const part = (index: number): Uint8Array => secret.slice(32 * index, 32 * (index + 1));
  const roots = {
    caScalar: part(0),
    tempCaScalar: part(1),
    k256: part(2),
    history: Array.from({ length: retired }, (_, index) => ({
      caScalar: part(3 + 2 * index),
      k256: part(4 + 2 * index),
    })),
  };
  secret.fill(0);
  if (!isWhole || foundKeys(roots, first.temp_ca_pubkey !== undefined) !== publicKeys(first)) {
    throw new KmsError('backup-invalid', 'The shares combine to other keys than the backup was made of');
  }
  return roots;
}

/** What the shares of one backup agree on, as one text. */
function publicKeys({ temp_ca_pubkey = '', history = [], ...active }: PublicKeys): string {
  const names = [active, ...history].flatMap(({ ca_pubkey, k256_pubkey }) => [ca_pubkey, k256_pubkey]);
  return [temp_ca_pubkey, ...names].join();
}

type PublicKeys = Pick<BackupShare, 'ca_pubkey' | 'temp_ca_pubkey' | 'k256_pubkey' | 'history'>;

/** @param withTempCa false for shares of older versions, which do not name that key */
function foundKeys(roots: BackupRoots, withTempCa: boolean): string | undefined {
  try {
    const tempCa = toHex(p256KeyFromScalar(roots.tempCaScalar).spki);
    const history = roots.history.map(namesOf);
    return publicKeys({ ...namesOf(roots), temp_ca_pubkey: withTempCa ? tempCa : '', history });
  } catch {
    // A scalar out of range: the shares were forged.
    return undefined;
  }
}

import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { k256PublicKey, p256KeyFromScalar } from '@dstack-cloud/keys';
import { armor, Decrypter } from 'age-encryption';
import { combine } from 'shamir-secret-sharing';
import { KmsError } from '../errors.ts';
import { type BackupShare, parseShare } from './share.ts';
import type { BackupRoots } from './split-roots.ts';

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
    share.set === first.set &&
    share.threshold === first.threshold &&
    share.ca_pubkey === first.ca_pubkey &&
    share.temp_ca_pubkey === first.temp_ca_pubkey &&
    share.k256_pubkey === first.k256_pubkey;
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
  const roots = {
    caScalar: secret.slice(0, 32),
    tempCaScalar: secret.slice(32, 64),
    k256: secret.slice(64, 96),
  };
  secret.fill(0);
  const wanted = first.ca_pubkey + first.temp_ca_pubkey + first.k256_pubkey;
  if (publicKeys(roots) !== wanted) {
    throw new KmsError('backup-invalid', 'The shares combine to other keys than the backup was made of');
  }
  return roots;
}

function publicKeys({ caScalar, tempCaScalar, k256 }: BackupRoots): string | undefined {
  try {
    const [ca, tempCa] = [caScalar, tempCaScalar].map((scalar) => toHex(p256KeyFromScalar(scalar).spki));
    return `${ca}${tempCa}${toHex(k256PublicKey(k256))}`;
  } catch {
    // A scalar out of range: the shares were forged.
    return undefined;
  }
}

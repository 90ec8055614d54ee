import { join } from 'node:path';
import { AppError, readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { parseCertificate } from '@dstack-cloud/attestation';
import { decodePem, equalBytes, toHex, utf8Text } from '@dstack-cloud/encoding';
import { KeysError, k256PublicKey, type P256Key, p256KeyFromPem, rootId } from '@dstack-cloud/keys';
import { certificatePem, rootCa } from '@dstack-cloud/ra-tls';
import { KmsError } from '../errors.ts';
import { readBootstrapInfo } from './bootstrap-info.ts';
import { MAX_KEY_FILE_BYTES } from './key-files.ts';
import type { Authority, Root } from './kms-keys.ts';

/** CA certificates are kept until so little of their life is left. */
const RENEW_BEFORE_SECONDS = 365 * 86_400;

/** How what is missing or near its end is reissued. */
export type Renewal = {
  /** Unix seconds. */
  readonly now: number;
  /** No file is changed: only the caller gets what had to be reissued. For callers that do not hold the lock. */
  readonly isReadOnly?: boolean;
  /** Told what was reissued. */
  readonly onRenewed?: (name: string) => void;
};

/** The root whose files are in `directory`, active or retired. @throws KmsError `keys-damaged` */
export async function readRoot(directory: string, renewal: Renewal): Promise<Root> {
  const k256 = await readFileBounded(join(directory, 'root-k256.key'), MAX_KEY_FILE_BYTES);
  if (k256.length !== 32) throw damaged(directory, 'root-k256.key', `has ${k256.length} bytes instead of 32`);
  const caKey = parseKey(directory, 'root-ca.key', await readText(directory, 'root-ca.key'));
  const k256Pubkey = publicOf(directory, k256);
  const info = await readText(directory, 'bootstrap-info.json');
  return {
    id: toHex(rootId(k256Pubkey)),
    roots: { caScalar: caKey.scalar, k256 },
    k256Pubkey,
    rootCa: await readAuthority(directory, 'root-ca.crt', caKey, rootCa, renewal),
    bootstrapInfo: info === undefined ? undefined : readBootstrapInfo(info),
  };
}

/** The authority of this key: with its certificate, if that is still good, else with a new one. */
export async function readAuthority(
  directory: string,
  name: string,
  key: P256Key,
  issue: (input: { key: P256Key; now: number }) => Uint8Array,
  { now, isReadOnly = false, onRenewed }: Renewal,
): Promise<Authority> {
  const pem = await readText(directory, name);
  const kept = pem === undefined ? undefined : usable(pem, key, now);
  if (kept !== undefined) return { key, certificate: kept };
  const certificate = issue({ key, now: Math.floor(now) });
  if (isReadOnly) return { key, certificate };
  await writeFileAtomic(join(directory, name), certificatePem(certificate), { mode: 0o644 });
  onRenewed?.(name);
  return { key, certificate };
}

/** The certificate, if it is one for this key with at least a year to go. */
function usable(pem: string, key: P256Key, now: number): Uint8Array | undefined {
  try {
    const der = decodePem(pem, 'CERTIFICATE');
    const { spki, notAfter } = parseCertificate(der);
    return equalBytes(spki, key.spki) && notAfter > now + RENEW_BEFORE_SECONDS ? der : undefined;
  } catch {
    return undefined;
  }
}

/** A P-256 key of a key directory. @throws KmsError `keys-damaged` */
export function parseKey(directory: string, name: string, pem: string | undefined): P256Key {
  try {
    return p256KeyFromPem(pem ?? '');
  } catch (error) {
    if (error instanceof KeysError) throw damaged(directory, name, 'is no PKCS#8 PEM key on P-256');
    throw error;
  }
}

function publicOf(directory: string, k256: Uint8Array): Uint8Array {
  try {
    return k256PublicKey(k256);
  } catch {
    throw damaged(directory, 'root-k256.key', 'is no secp256k1 secret');
  }
}

/** A text file of a key directory; undefined when it is not there. @throws KmsError `keys-damaged` */
export async function readText(directory: string, name: string): Promise<string | undefined> {
  try {
    return utf8Text(await readFileBounded(join(directory, name), MAX_KEY_FILE_BYTES));
  } catch (error) {
    const code = error instanceof AppError ? error.code : undefined;
    if (code === 'file-missing') return undefined;
    throw damaged(directory, name, code === 'file-too-large' ? 'is larger than 1 MiB' : 'cannot be read');
  }
}

export function damaged(directory: string, name: string, what: string): KmsError {
  return new KmsError('keys-damaged', `${join(directory, name)} ${what}; restore it from a backup`);
}

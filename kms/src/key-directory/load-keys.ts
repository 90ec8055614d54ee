import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { parseCertificate } from '@dstack-cloud/attestation';
import { decodePem, equalBytes, utf8Text } from '@dstack-cloud/encoding';
import {
  generateP256Key,
  KeysError,
  k256PublicKey,
  type P256Key,
  p256KeyFromPem,
  p256KeyPem,
} from '@dstack-cloud/keys';
import { certificatePem, rootCa, tempCa } from '@dstack-cloud/ra-tls';
import { KmsError } from '../errors.ts';
import { readBootstrapInfo } from './bootstrap-info.ts';
import { keyDirectoryState } from './commit.ts';
import { type KeyFileName, MAX_KEY_FILE_BYTES } from './key-files.ts';
import type { Authority, KmsKeys } from './kms-keys.ts';

/** CA certificates are kept until so little of their life is left (chapter 10 section 6.5). */
const RENEW_BEFORE_SECONDS = 365 * 86_400;

export type LoadKeysOptions = {
  /** Unix seconds. */
  readonly now: number;
  /** Domain to use when the directory names none. */
  readonly domain?: string;
  /** Told what was made anew. */
  readonly onRenewed?: (name: KeyFileName) => void;
};

/**
 * Loads a key directory of ours or of the original. The root keys must both be there; certificates that are
 * missing or near their end are issued anew with the same keys, and the two keys that identify nobody (temp CA,
 * RPC) are made when missing. A root key is never made or changed here.
 * @throws KmsError `keys-missing`, `keys-damaged`
 */
export async function loadKeys(directory: string, options: LoadKeysOptions): Promise<KmsKeys> {
  const state = await keyDirectoryState(directory);
  if (state === 'empty') throw new KmsError('keys-missing', `Key directory ${directory} has no root keys`);
  if (state === 'damaged') {
    throw new KmsError(
      'keys-damaged',
      `Key directory ${directory} has one root key without the other; restore the missing one from a backup`,
    );
  }
  const k256 = await readFileBounded(join(directory, 'root-k256.key'), MAX_KEY_FILE_BYTES);
  if (k256.length !== 32) throw damaged(directory, 'root-k256.key', `has ${k256.length} bytes instead of 32`);
  const caKey = parseKey(directory, 'root-ca.key', await readText(directory, 'root-ca.key'));
  const tempKey = await keyOrNew(directory, 'tmp-ca.key', options);
  const rpcKey = await keyOrNew(directory, 'rpc.key', options);
  const domain = (await readText(directory, 'rpc-domain'))?.trim() || options.domain;
  if (domain === undefined || domain === '') {
    throw new KmsError(
      'keys-missing',
      `${join(directory, 'rpc-domain')} is missing; write the domain of this KMS into it, or set core.onboard.auto_bootstrap_domain`,
    );
  }
  const info = await readText(directory, 'bootstrap-info.json');
  return {
    roots: { caScalar: caKey.scalar, k256 },
    k256Pubkey: publicOf(directory, k256),
    rootCa: await authority(directory, 'root-ca.crt', caKey, rootCa, options),
    tempCa: await authority(directory, 'tmp-ca.crt', tempKey, tempCa, options),
    rpcKey,
    domain,
    bootstrapInfo: info === undefined ? undefined : readBootstrapInfo(info),
  };
}

async function authority(
  directory: string,
  name: 'root-ca.crt' | 'tmp-ca.crt',
  key: P256Key,
  issue: (input: { key: P256Key; now: number }) => Uint8Array,
  { now, onRenewed }: LoadKeysOptions,
): Promise<Authority> {
  const pem = await readText(directory, name);
  const kept = pem === undefined ? undefined : usable(pem, key, now);
  if (kept !== undefined) return { key, certificate: kept };
  const certificate = issue({ key, now: Math.floor(now) });
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

async function keyOrNew(
  directory: string,
  name: 'tmp-ca.key' | 'rpc.key',
  { onRenewed }: LoadKeysOptions,
): Promise<P256Key> {
  const pem = await readText(directory, name);
  if (pem !== undefined) return parseKey(directory, name, pem);
  const key = generateP256Key();
  await writeFileAtomic(join(directory, name), p256KeyPem(key), { mode: 0o600 });
  onRenewed?.(name);
  return key;
}

function parseKey(directory: string, name: KeyFileName, pem: string | undefined): P256Key {
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

async function readText(directory: string, name: KeyFileName): Promise<string | undefined> {
  try {
    const bytes = await readFile(join(directory, name));
    if (bytes.length > MAX_KEY_FILE_BYTES) throw damaged(directory, name, 'is larger than 1 MiB');
    return utf8Text(new Uint8Array(bytes));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    if (error instanceof KmsError) throw error;
    throw damaged(directory, name, 'cannot be read');
  }
}

function damaged(directory: string, name: KeyFileName, what: string): KmsError {
  return new KmsError('keys-damaged', `${join(directory, name)} ${what}; restore it from a backup`);
}

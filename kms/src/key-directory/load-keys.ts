import { join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { generateP256Key, type P256Key, p256KeyPem } from '@dstack-cloud/keys';
import { tempCa } from '@dstack-cloud/ra-tls';
import { servedNameProblem } from '../config/domain.ts';
import { KmsError } from '../errors.ts';
import { keyDirectoryState } from './commit.ts';
import { namesIn, nodeFileSystem } from './file-system.ts';
import { ROTATION_DIRECTORY } from './key-files.ts';
import type { KmsKeys, Root } from './kms-keys.ts';
import { loadHistory } from './load-history.ts';
import { parseKey, type Renewal, readAuthority, readRoot, readText } from './read-root.ts';

export type LoadKeysOptions = Renewal & {
  /** Domain to use when the directory names none. */
  readonly domain?: string;
};

/** The active root and the retired ones, the newest first. */
export type Roots = Root & Pick<KmsKeys, 'history'>;

/**
 * Loads a key directory of ours or of the original, for the process that holds its lock. The root keys must both be
 * there; certificates that are missing or near their end are reissued with the same keys, and the two keys that
 * identify nobody (temp CA, RPC) are made when missing. A root key is never made or changed here.
 * @throws KmsError `keys-missing`, `keys-damaged`, `keys-in-use`
 */
export function loadKeys(directory: string, options: LoadKeysOptions): Promise<KmsKeys> {
  return whileUnchanged(directory, options, async (roots) => {
    const tempKey = await keyOrNew(directory, 'tmp-ca.key', options);
    const rpcKey = await keyOrNew(directory, 'rpc.key', options);
    const domain = await readDomain(directory, options.domain);
    const tempAuthority = await readAuthority(directory, 'tmp-ca.crt', tempKey, tempCa, options);
    return { ...roots, tempCa: tempAuthority, rpcKey, domain };
  });
}

/**
 * The roots alone, beside whatever process holds the lock: nothing is written.
 * @throws KmsError `keys-missing`, `keys-damaged`, `keys-in-use`
 */
export function readRoots(directory: string, now: number): Promise<Roots> {
  return whileUnchanged(directory, { now, isReadOnly: true }, async (roots) => roots);
}

/** The same with the key of the temp CA. @throws KmsError */
export function readBackedUp(directory: string, now: number): Promise<Roots & { tempKey: P256Key }> {
  return whileUnchanged(directory, { now, isReadOnly: true }, async (roots) => {
    const pem = await readText(directory, 'tmp-ca.key');
    if (pem !== undefined) return { ...roots, tempKey: parseKey(directory, 'tmp-ca.key', pem) };
    const path = join(directory, 'tmp-ca.key');
    throw new KmsError('keys-missing', `${path} is missing; start the KMS, which makes a new one`);
  });
}

/** Reads the roots and then the rest. Read while the root was changed, they could be of two roots: an error. */
async function whileUnchanged<T>(
  directory: string,
  renewal: Renewal,
  readRest: (roots: Roots) => Promise<T>,
): Promise<T> {
  const state = await keyDirectoryState(directory);
  if (state === 'empty') throw new KmsError('keys-missing', `Key directory ${directory} has no root keys`);
  if (state === 'damaged') {
    throw new KmsError(
      'keys-damaged',
      `Key directory ${directory} has one root key without the other; restore the missing one from a backup`,
    );
  }
  await assertNoRotation(directory);
  const root = await readRoot(directory, renewal);
  const history = await loadHistory(directory, root.id, renewal);
  const all = await readRest({ ...root, history });
  await assertNoRotation(directory);
  if ((await readRoot(directory, renewal)).id !== root.id) throw rotating(directory);
  return all;
}

/** The name in the RPC certificate: that of the directory, else the configured one. */
async function readDomain(directory: string, configured: string | undefined): Promise<string> {
  const path = join(directory, 'rpc-domain');
  const domain = (await readText(directory, 'rpc-domain'))?.trim() || configured;
  if (domain === undefined || domain === '') {
    throw new KmsError(
      'keys-missing',
      `${path} is missing; write the domain of this KMS into it, or set core.onboard.auto_bootstrap_domain`,
    );
  }
  const problem = servedNameProblem(domain);
  if (problem === undefined) return domain;
  const found = JSON.stringify(domain.length > 100 ? `${domain.slice(0, 100)}…` : domain);
  throw new KmsError('keys-damaged', `${path} holds ${found}: the name of a KMS ${problem}; correct it`);
}

async function assertNoRotation(directory: string): Promise<void> {
  if ((await namesIn(nodeFileSystem, directory)).has(ROTATION_DIRECTORY)) throw rotating(directory);
}

function rotating(directory: string): KmsError {
  return new KmsError(
    'keys-in-use',
    `The root in ${directory} is being rotated, or a rotation was interrupted; start the KMS or run rotate-root again to finish it`,
  );
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

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { EncodingError, fromHex, toHex } from '@dstack-cloud/encoding';
import { k256PublicKey } from '@dstack-cloud/keys';
import { backupShares, restoreKeys } from '../backup/backup.ts';
import { openShare, readOpenedShare } from '../backup/share-file.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import { KmsError } from '../errors.ts';
import { commitKeyFiles, keyDirectoryState, recoverKeyDirectory } from '../key-directory/commit.ts';
import { loadKeys } from '../key-directory/load-keys.ts';
import { issueRpcCertificate, keyFilesOf, keysFor } from '../key-directory/new-keys.ts';
import { assertDomain } from '../onboard/domain.ts';
import { attestOf } from '../onboard/onboarding.ts';
import { openServices } from '../services.ts';
import type { Log } from '../telemetry/log.ts';

const MAX_RECIPIENTS = 255;

/** `backup`: writes one sealed share per recipient. @returns what was done, for the operator */
export async function backupCommand(
  config: KmsConfig,
  options: { threshold: number; recipients: readonly string[]; out: string; now: number },
): Promise<string> {
  const recipients = options.recipients.slice(0, MAX_RECIPIENTS).map((text) => hexKey('--recipient', text));
  const keys = await loadKeys(config.core.cert_dir, { now: options.now });
  const files = backupShares(keys, options.threshold, recipients);
  await mkdir(options.out, { recursive: true, mode: 0o700 });
  const names: string[] = [];
  for (const [position, text] of files.entries()) {
    const path = join(options.out, `share-${position + 1}-of-${files.length}.json`);
    await writeFileAtomic(path, text, { mode: 0o600 });
    names.push(path);
  }
  return `Wrote ${names.length} shares, ${options.threshold} of which restore the root ${toHex(keys.k256Pubkey)}:\n  ${names.join('\n  ')}\nGive each to its custodian, then remove them here.\n`;
}

/** `open-share`: what a custodian does with a share and the own secret key, on a machine of the custodian's. */
export async function openShareCommand(share: string, identityFile: string): Promise<string> {
  const identity = hexKey('--identity', (await readText(identityFile)).trim());
  return openShare(await readText(share), identity);
}

/**
 * `restore`: makes a key directory from opened shares, when the policy source knows this KMS. Never over keys that
 * are there.
 */
export async function restoreCommand(
  config: KmsConfig,
  options: { shares: readonly string[]; domain: string; log: Log },
): Promise<string> {
  assertDomain(options.domain);
  const directory = config.core.cert_dir;
  await recoverKeyDirectory(directory);
  if ((await keyDirectoryState(directory)) !== 'empty') {
    throw new KmsError(
      'keys-exist',
      `Key directory ${directory} has root keys already; they are never replaced`,
    );
  }
  const shared = restoreKeys(
    await Promise.all(options.shares.map(async (file) => readOpenedShare(await readText(file)))),
  );
  const services = openServices(config, { log: options.log });
  try {
    await services.self.assertAllowed();
    const now = Math.floor(services.now());
    const keys = keysFor(shared, options.domain, now);
    const certificate = await issueRpcCertificate(keys, now, attestOf(services));
    await commitKeyFiles(directory, keyFilesOf(keys, certificate));
  } finally {
    services.close();
  }
  return `Restored the root ${toHex(k256PublicKey(shared.k256))} in ${directory}\n`;
}

async function readText(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new KmsError('backup-invalid', `${file} cannot be read`, { cause });
  });
  if (text.length > 65_536) throw new KmsError('backup-invalid', `${file} is too large for a share`);
  return text;
}

function hexKey(name: string, text: string): Uint8Array {
  try {
    return fromHex(text, { length: 32, prefix: 'allow' });
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new KmsError('backup-invalid', `${name} must be an X25519 key, 32 bytes of hex`, { cause });
  }
}

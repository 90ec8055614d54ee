import { AuditError, verifyLog, verifyTreeHead } from '@dstack-cloud/audit-log';
import { fromHex } from '@dstack-cloud/encoding';
import { readKmsRoot } from '../chain/read-kms-root.ts';
import { type GlobalConfig, loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { checkGrowth, checkRecord, fetchAuditHead } from '../kms/audit.ts';
import { lastSeenHead, rememberHead } from '../kms/seen-heads.ts';

/**
 * `kms audit verify`: the head is signed by a key that the root on chain certified; the log continues the one seen
 * last; optionally, a copy of the log holds together and a record is in it.
 */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const config = await loadGlobalConfig(context);
  const url = String(flags['url'] ?? config.services.kms_urls[0] ?? '');
  if (url === '') {
    throw new CliError('usage', 'Name a key service with --url, or set services.kms_urls', {
      exitCode: EXIT.usage,
    });
  }
  const rootKey = await expectedRoot(config, flags['trustSigner']);
  const { head, publicKey } = await fetchAuditHead(url, rootKey);
  context.print(`✓ Head over ${head.size} records, ${new Date(head.timestamp * 1000).toISOString()}`);
  context.print(`✓ Signed by the audit key that root 0x${rootKey} certified`);

  const before = await lastSeenHead(context, publicKey);
  if (before === undefined) {
    context.print('- No earlier head to compare with; this one is remembered');
  } else {
    const earlier = verifyTreeHead(before, publicKey);
    await checkGrowth(url, earlier, head);
    context.print(`✓ Continues the head over ${earlier.size} records that was seen before`);
  }
  const { record, hash, log } = flags;
  if (record !== undefined) {
    await checkRecord(url, sequence(record), recordHash(hash), head);
    context.print(`✓ Record ${String(record)} is in the log`);
  }
  const copy = log === undefined ? undefined : await checkCopy(String(log), publicKey, before);
  if (copy !== undefined) context.print(`✓ The copy of ${copy.records} records holds together`);
  await rememberHead(context, publicKey, head);
  context.result({ url, root_key: rootKey, head, continues: before ?? null, copy: copy ?? null });
  return undefined;
}

async function expectedRoot(config: GlobalConfig, named: unknown): Promise<string> {
  if (config.chain !== undefined) return await readKmsRoot(config.chain);
  const hex = String(named ?? '')
    .replace(/^0x/i, '')
    .toLowerCase();
  if (/^0[23][0-9a-f]{64}$/.test(hex)) return hex;
  throw new CliError('kms_untrusted', 'Nothing says which root must have certified the audit key', {
    expected: 'chain in the global configuration, or --trust-signer HEX',
    found: 'neither',
    exitCode: EXIT.refused,
  });
}

async function checkCopy(directory: string, publicKey: Uint8Array, before: unknown) {
  try {
    const { records, root } = await verifyLog(directory, publicKey, before === undefined ? [] : [before]);
    return { records, root };
  } catch (cause) {
    if (!(cause instanceof AuditError)) throw cause;
    throw new CliError('audit_broken', `The copy of the log in ${directory} does not hold together`, {
      found: cause.message,
      cause,
    });
  }
}

function sequence(value: unknown): number {
  const seq = Number(value);
  if (Number.isSafeInteger(seq) && seq >= 0) return seq;
  throw new CliError('bad_argument', '--record must be the number of a record', { exitCode: EXIT.usage });
}

function recordHash(value: unknown): Uint8Array {
  try {
    return fromHex(String(value ?? ''), { length: 32 });
  } catch (cause) {
    throw new CliError('bad_argument', '--record needs --hash with 64 hex digits', {
      cause,
      exitCode: EXIT.usage,
    });
  }
}

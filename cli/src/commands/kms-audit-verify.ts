import { AuditError, type SignedTreeHead, verifyLog, verifyTreeHead } from '@dstack-cloud/audit-log';
import { fromHex } from '@dstack-cloud/encoding';
import { readKmsRoot } from '../chain/read-kms-root.ts';
import { type GlobalConfig, loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { checkGrowth, checkRecord, checkSigner, fetchAuditHead } from '../kms/audit.ts';
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
  const signed = await fetchAuditHead(url, rootKey);
  const { head, publicKey } = signed;
  context.print(`✓ Head over ${head.size} records, ${new Date(head.timestamp * 1000).toISOString()}`);
  context.print(`✓ Signed by the audit key that root 0x${signed.rootKey} certified`);
  if (signed.rootKey !== rootKey) {
    context.print(
      `✓ Root 0x${rootKey}, which you trust, handed over to it; tell chain.kms_contract of the new one`,
    );
  }

  const seen = await lastSeenHead(context, url, signed);
  const before = seen?.head;
  if (before === undefined) {
    context.print('- No earlier head to compare with; this one is remembered');
  } else {
    checkSigner(url, seen!, signed);
    const earlier = verifyTreeHead(before, seen!.publicKey);
    await checkGrowth(url, earlier, head);
    context.print(`✓ Continues the head over ${earlier.size} records that was seen before`);
  }
  const { record, hash, log } = flags;
  if (record !== undefined) {
    await checkRecord(url, sequence(record), recordHash(hash), head);
    context.print(`✓ Record ${String(record)} is in the log`);
  }
  const copy =
    log === undefined
      ? undefined
      : await checkCopy(url, String(log), [publicKey, ...(seen ? [seen.publicKey] : [])], { before, head });
  if (copy !== undefined) {
    const short = copy.missing === 0 ? '' : `; it lacks the last ${copy.missing}`;
    context.print(`✓ The copy of ${copy.records} records is of this log${short}`);
  }
  await rememberHead(context, url, signed);
  context.result({ url, root_key: signed.rootKey, head, continues: before ?? null, copy: copy ?? null });
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

/**
 * The records of the copy follow from each other, and are those that the head of now speaks of: the chain alone is
 * no proof, since anybody can make one. A copy that was taken earlier is proved to be the beginning of the log.
 */
async function checkCopy(
  url: string,
  directory: string,
  publicKeys: readonly Uint8Array[],
  { before, head }: { before: unknown; head: SignedTreeHead },
) {
  const verify = async (...heads: unknown[]) => {
    try {
      return await verifyLog(directory, publicKeys, before === undefined ? heads : [before, ...heads]);
    } catch (cause) {
      if (isMissing(cause)) throw badCopy(directory, 'no such directory', cause);
      if (cause instanceof AuditError) throw badCopy(directory, cause.message, cause);
      throw cause;
    }
  };
  const { records, root } = await verify();
  if (records >= head.size) await verify(head);
  else if (records === 0) throw badCopy(directory, 'no records');
  else {
    await checkGrowth(url, { size: records, root }, head).catch((cause: unknown) => {
      const isOther = cause instanceof CliError && cause.code === 'audit_broken';
      throw isOther ? badCopy(directory, `it is not the beginning of the log of ${url}`, cause) : cause;
    });
  }
  return { records, root, missing: Math.max(0, head.size - records) };
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

function badCopy(directory: string, found: string, cause?: unknown): CliError {
  const message = `The copy of the log in ${directory} does not hold together: ${found}`;
  return new CliError('audit_broken', message, { found, cause });
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

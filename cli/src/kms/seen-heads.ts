import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, readFileBounded, table, writeFileAtomic } from '@dstack-cloud/app';
import type { SignedTreeHead } from '@dstack-cloud/audit-log';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { z } from 'zod';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import type { AuditHead } from './audit.ts';
import type { AuditSigner } from './handovers.ts';

/** Some thousand logs. */
const MAX_BYTES = 4 * 1024 * 1024;

/** The newest head of one log, and who signed it. */
interface Seen {
  readonly root_key: string;
  readonly audit_key: string;
  readonly head: SignedTreeHead;
}

/**
 * The newest head seen of each log, by the address of its key service, beside the global configuration: the next one
 * must continue it. Older versions had the head alone, by audit key.
 */
type SeenHeads = Record<string, Seen | SignedTreeHead>;

const seenHeads = table(z.looseObject({}));

/** A head seen before; `head` is not yet checked. */
export interface SeenHead extends AuditSigner {
  readonly head: unknown;
}

/** The head of this log that was seen last. Throws `bad_config`. */
export async function lastSeenHead(
  context: Context,
  url: string,
  { rootKey, publicKey }: AuditSigner,
): Promise<SeenHead | undefined> {
  const heads = await read(context);
  const seen = Object.hasOwn(heads, url) ? heads[url] : undefined;
  if (seen !== undefined && 'audit_key' in seen) {
    return { rootKey: seen.root_key, publicKey: keyOf(context, seen.audit_key), head: seen.head };
  }
  const head = heads[toHex(publicKey)];
  return head === undefined ? undefined : { rootKey, publicKey, head };
}

function keyOf(context: Context, hex: string): Uint8Array {
  try {
    return fromHex(hex, { length: 33 });
  } catch (cause) {
    throw new CliError('bad_config', `${path(context)} names a key that is none`, { cause });
  }
}

/** Remembers a head. */
export async function rememberHead(
  context: Context,
  url: string,
  { rootKey, publicKey, head }: AuditHead,
): Promise<void> {
  const heads = {
    ...(await read(context)),
    [url]: { root_key: rootKey, audit_key: toHex(publicKey), head },
  };
  await mkdir(dirname(path(context)), { recursive: true, mode: 0o700 });
  await writeFileAtomic(path(context), `${JSON.stringify(heads, null, 2)}\n`);
}

async function read(context: Context): Promise<SeenHeads> {
  let text: string;
  try {
    text = new TextDecoder().decode(await readFileBounded(path(context), MAX_BYTES));
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing') return {};
    // What cannot be read is not what was never there.
    throw new CliError('bad_config', `${path(context)} cannot be read`, {
      cause,
      hint: 'It holds the heads of audit logs seen before; make it readable, or move it away if you know why it is not',
    });
  }
  try {
    return seenHeads.parse(JSON.parse(text)) as SeenHeads;
  } catch (cause) {
    // Forgetting them silently would hide a rewritten log.
    throw new CliError('bad_config', `${path(context)} is damaged`, {
      cause,
      hint: 'It holds the heads of audit logs seen before; restore it, or move it away if you know why it is damaged',
    });
  }
}

function path(context: Context): string {
  return join(dirname(context.configPath), 'audit-heads.json');
}

import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import type { SignedTreeHead } from '@dstack-cloud/audit-log';
import { toHex } from '@dstack-cloud/encoding';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';

/** The newest head seen of each log, by audit key, beside the global configuration: the next one must continue it. */
type SeenHeads = Record<string, SignedTreeHead>;

/** The head of this log that was seen last, not yet checked. Throws `bad_config`. */
export async function lastSeenHead(context: Context, publicKey: Uint8Array): Promise<unknown> {
  return (await read(context))[toHex(publicKey)];
}

/** Remembers a head. */
export async function rememberHead(
  context: Context,
  publicKey: Uint8Array,
  head: SignedTreeHead,
): Promise<void> {
  const heads = { ...(await read(context)), [toHex(publicKey)]: head };
  await mkdir(dirname(path(context)), { recursive: true, mode: 0o700 });
  await writeFileAtomic(path(context), `${JSON.stringify(heads, null, 2)}\n`);
}

async function read(context: Context): Promise<SeenHeads> {
  let text: string;
  try {
    text = await readFile(path(context), 'utf8');
  } catch {
    return {};
  }
  try {
    return JSON.parse(text) as SeenHeads;
  } catch (cause) {
    // Forgetting them silently would hide a rewritten log.
    throw new CliError('bad_config', `${path(context)} is no JSON`, {
      cause,
      hint: 'It holds the heads of audit logs seen before; restore it, or move it away if you know why it is damaged',
    });
  }
}

function path(context: Context): string {
  return join(dirname(context.configPath), 'audit-heads.json');
}

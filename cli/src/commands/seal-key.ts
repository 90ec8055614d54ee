import { approverHash } from '@dstack-cloud/attestation/attester';
import { toHex } from '@dstack-cloud/encoding';
import type { Context } from '../context.ts';
import { findApprover, type KeyOptions } from '../seal/approval-key.ts';

/** `seal key`: what app-compose.json names as the key that approves systems. */
export async function run(
  context: Context,
  _args: readonly string[],
  options: KeyOptions,
): Promise<undefined> {
  const { spki } = await findApprover(context, options);
  const [key, name] = [toHex(spki), toHex(approverHash(spki))];
  context.print(`seal_approval_key: ${key}`);
  context.print(`name of the key:   ${name}`);
  context.result({ seal_approval_key: key, key_name: name });
  return undefined;
}

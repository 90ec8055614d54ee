import { changeComposeHash } from '../chain/change-compose-hash.ts';
import type { Context } from '../context.ts';

/** `app revoke [HASH]`: machines with this compose file get no keys at their next boot. */
export async function run(
  context: Context,
  args: readonly (string | undefined)[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  await changeComposeHash(context, args[0], false, flags);
  return undefined;
}

import { changeComposeHash } from '../chain/change-compose-hash.ts';
import type { Context } from '../context.ts';

/** `app allow [HASH]`: machines with this compose file may have the app's keys. */
export async function run(
  context: Context,
  args: readonly (string | undefined)[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  await changeComposeHash(context, args[0], true, flags);
  return undefined;
}

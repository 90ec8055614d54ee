import type { Context } from '../context.ts';
import { setFirewall } from '../firewall/set-firewall.ts';

/** `fw deny`: closes a port, whatever allows it. */
export async function run(
  context: Context,
  args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  await setFirewall(context, 'deny', args[0] ?? '', flags);
  return undefined;
}

import type { Context } from '../context.ts';
import { setFirewall } from '../firewall/set-firewall.ts';

/** `fw allow`: opens a port; a rule that is there gets these sources. */
export async function run(
  context: Context,
  args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  await setFirewall(context, 'allow', args[0] ?? '', flags);
  return undefined;
}

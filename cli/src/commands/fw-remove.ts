import type { Context } from '../context.ts';
import { firewallPlace } from '../firewall/fw-place.ts';
import { parsePort, removeRules } from '../platforms/gcp/firewall.ts';

/** `fw remove`: what allows and what denies a port. */
export async function run(
  context: Context,
  args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const port = parsePort(args[0] ?? '');
  const gcp = await firewallPlace(context, flags);
  const removed = await removeRules(gcp, gcp.settings.instance, port);
  context.print(
    removed === 0 ? `No rule for port ${port.number}` : `Removed ${removed} of port ${port.number}`,
  );
  context.result({ removed });
  return undefined;
}

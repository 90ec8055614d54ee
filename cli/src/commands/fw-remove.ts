import type { Context } from '../context.ts';
import { firewallPlace } from '../firewall/fw-place.ts';
import { parsePort } from '../platforms/cloud/port.ts';

/** `fw remove`: what allows and what denies a port. */
export async function run(
  context: Context,
  args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const port = parsePort(args[0] ?? '');
  const { firewall, place } = await firewallPlace(context, flags);
  const removed = await firewall.remove(place, port);
  context.print(
    removed === 0 ? `No rule for port ${port.number}` : `Removed ${removed} of port ${port.number}`,
  );
  context.result({ removed });
  return undefined;
}

import type { Context } from '../context.ts';
import { parsePort, parseSource } from '../platforms/cloud/port.ts';
import type { FirewallAction } from '../platforms/platform.ts';
import { firewallPlace } from './fw-place.ts';

const SAID = { made: 'Made', changed: 'Changed', unchanged: 'Already there:' } as const;

/** The commands `fw allow` and `fw deny`. */
export async function setFirewall(
  context: Context,
  action: FirewallAction,
  portText: string,
  flags: Readonly<Record<string, unknown>>,
): Promise<void> {
  const port = parsePort(portText);
  const sources = ((flags['source'] ?? []) as readonly string[]).map(parseSource);
  const { firewall, place } = await firewallPlace(context, flags);
  const done = await firewall.set(place, action, port, sources);
  const instance = firewall.instance(place);
  const from = sources.length === 0 ? '0.0.0.0/0' : sources.join(', ');
  context.print(`${SAID[done]} ${action} ${port.protocol}/${port.number} from ${from} for ${instance}`);
  const { protocol, number } = port;
  context.result({ action, protocol, port: number, sources: from, instance, done });
}

import type { Context } from '../context.ts';
import { type FirewallAction, parsePort, parseSource, setRule } from '../platforms/gcp/firewall.ts';
import { findInstance } from '../platforms/gcp/own-instance.ts';
import { firewallPlace, noInstance } from './fw-place.ts';

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
  const gcp = await firewallPlace(context, flags);
  const live = await findInstance(gcp);
  if (live === undefined) throw noInstance(gcp);
  const done = await setRule(gcp, live, action, port, sources);
  const from = sources.length === 0 ? '0.0.0.0/0' : sources.join(', ');
  context.print(
    `${SAID[done]} ${action} ${port.protocol}/${port.number} from ${from} for ${gcp.settings.instance}`,
  );
  const { protocol, number } = port;
  context.result({ action, protocol, port: number, sources: from, instance: gcp.settings.instance, done });
}

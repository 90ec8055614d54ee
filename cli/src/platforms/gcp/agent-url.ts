import type { GcpFirewall, GcpInstance } from './api/compute-api.ts';
import type { GcpPlace } from './gcp-place.ts';

const AGENT_PORT = 8090;

/** Address of the guest agent, when a firewall rule of the instance lets anybody in; undefined otherwise. */
export async function agentUrl(gcp: GcpPlace, live: GcpInstance): Promise<string | undefined> {
  const address = live.networkInterfaces?.[0]?.accessConfigs?.[0]?.natIP;
  if (address === undefined || address === '') return undefined;
  const name = `${gcp.settings.instance}-allow-tcp-${AGENT_PORT}`;
  const rule = await gcp.compute.find<GcpFirewall>('global', 'firewalls', name);
  return rule === undefined ? undefined : `http://${address}:${AGENT_PORT}`;
}

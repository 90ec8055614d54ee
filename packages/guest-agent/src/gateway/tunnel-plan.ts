import { BlockList, isIPv4 } from 'node:net';
import type { gateway, MessageInitShape } from '@dstack-cloud/prpc';
import { isWireGuardKey } from '@dstack-cloud/wireguard';
import { GuestError } from '../errors.ts';

/** One gateway at the other end of a tunnel. */
export interface TunnelServer {
  readonly publicKey: string;
  /** Its address in the tunnel. */
  readonly ip: string;
  /** Where its interface is reached: an IPv4 address or a name, and a port. */
  readonly host: string;
  readonly port: number;
}

/** The tunnel that a gateway gave; everything in it was checked. */
export interface TunnelPlan {
  readonly clientIp: string;
  /** In the order of their keys. */
  readonly servers: readonly TunnelServer[];
}

export interface PlanRules {
  readonly ownPublicKey: string;
  /** Networks that the machine is in without the tunnel, whose traffic must not go into it. */
  readonly localNetworks: readonly { readonly address: string; readonly prefix: number }[];
}

const MAX_SERVERS = 64;
const HOST_NAME =
  /^(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

/** Where tunnels have their addresses (RFC 1918, RFC 6598): a gateway takes no route of the public network. */
const PRIVATE = new BlockList();
PRIVATE.addSubnet('10.0.0.0', 8);
PRIVATE.addSubnet('172.16.0.0', 12);
PRIVATE.addSubnet('192.168.0.0', 16);
PRIVATE.addSubnet('100.64.0.0', 10);

/**
 * Checks what a gateway answered before any of it becomes a route or a line of a configuration file.
 *
 * @throws GuestError `gateway-refused` naming the member
 */
export function tunnelPlan(
  answer: MessageInitShape<typeof gateway.RegisterCvmResponseSchema>,
  rules: PlanRules,
): TunnelPlan {
  const { clientIp = '', servers = [] } = answer.wg ?? {};
  const local = networksOf(rules);
  requireAddress('client_ip', clientIp, local);
  if (servers.length === 0 || servers.length > MAX_SERVERS)
    refuse('servers', `1 to ${MAX_SERVERS}`, String(servers.length));
  const plan = servers.map(({ pk = '', ip = '', endpoint = '' }): TunnelServer => {
    if (!isWireGuardKey(pk) || pk === rules.ownPublicKey) refuse('pk', 'a WireGuard key of the gateway', pk);
    const [address = '', prefix = '32', ...rest] = ip.split('/');
    if (rest.length > 0 || !/^\d{1,2}$/.test(prefix) || Number(prefix) > 32)
      refuse('ip', 'an address with a prefix', ip);
    requireAddress('ip', address, local);
    if (address === clientIp) refuse('ip', 'another address than client_ip', address);
    return { publicKey: pk, ip: address, ...endpointOf(endpoint) };
  });
  for (const of of ['publicKey', 'ip'] as const) {
    if (new Set(plan.map((server) => server[of])).size !== plan.length)
      refuse('servers', `each with a ${of === 'ip' ? 'ip' : 'pk'} of its own`, 'one twice');
  }
  return { clientIp, servers: plan.sort((one, other) => (one.publicKey < other.publicKey ? -1 : 1)) };
}

function networksOf({ localNetworks }: PlanRules): BlockList {
  const list = new BlockList();
  for (const { address, prefix } of localNetworks) if (isIPv4(address)) list.addSubnet(address, prefix);
  return list;
}

function requireAddress(member: string, text: string, local: BlockList): void {
  if (!isIPv4(text) || !PRIVATE.check(text)) refuse(member, 'a private IPv4 address', text);
  if (local.check(text)) refuse(member, 'an address outside the networks of this machine', text);
}

function endpointOf(text: string): { readonly host: string; readonly port: number } {
  const colon = text.lastIndexOf(':');
  const [host, port] = [text.slice(0, colon), text.slice(colon + 1)];
  const isPort = /^[1-9]\d{0,4}$/.test(port) && Number(port) <= 65_535;
  if (colon < 1 || !isPort || !(isIPv4(host) || HOST_NAME.test(host)))
    refuse('endpoint', 'an IPv4 address or a name, and a port', text);
  return { host, port: Number(port) };
}

function refuse(member: string, expected: string, found: string): never {
  throw new GuestError('gateway-refused', `The gateway's answer has an unusable ${member}`, {
    expected,
    found: JSON.stringify(found.slice(0, 80)),
  });
}

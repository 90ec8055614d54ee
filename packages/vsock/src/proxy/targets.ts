import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';

/** A host and port that may be reached. */
export interface AllowedTarget {
  /** Lower case, without brackets. */
  readonly host: string;
  readonly port: number;
}

/** A name of RFC 1123, lower case: what a certificate can name. */
const NAME = /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** The C library takes these for addresses: `127.1`, `0x7f000001`, `2130706433`. */
const NUMERIC_LAST = /(?:^|\.)(?:0x[0-9a-f]*|\d+)$/;

/** `HOST:PORT` or `[ADDRESS]:PORT`; undefined for everything that could be understood in two ways. */
export function parseTarget(text: string): AllowedTarget | undefined {
  const [, bracketed, plain, digits = ''] =
    /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([^:[\]]{1,253})):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (port < 1 || port > 65_535 || digits.startsWith('0')) return undefined;
  if (bracketed !== undefined)
    return isIP(bracketed) === 6 ? { host: bracketed.toLowerCase(), port } : undefined;
  const host = plain?.toLowerCase() ?? '';
  if (isIP(host) === 4) return { host, port };
  return NAME.test(host) && !NUMERIC_LAST.test(host) ? { host, port } : undefined;
}

/** Lists of their own for each family: Node holds an IPv4 address to rules for mapped ones too. */
const LISTS = {
  ipv4: { local: new BlockList(), own: new BlockList() },
  ipv6: { local: new BlockList(), own: new BlockList() },
};
/** Never an answer of DNS: this host, its link, the metadata service, nobody, everybody (RFC 6890). */
const LOCAL = {
  ipv4: ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '192.0.0.0/24', '198.18.0.0/15', '224.0.0.0/3'],
  // Also the ways to write an IPv4 address, and the metadata service of EC2.
  ipv6: [
    '::/96',
    'fe80::/10',
    'ff00::/8',
    '::ffff:0:0/96',
    '64:ff9b::/96',
    '64:ff9b:1::/48',
    '2002::/16',
    '2001::/32',
    'fd00:ec2::254/128',
  ],
} as const;
/** Networks of the operator's own (RFC 1918, RFC 6598, RFC 4193, and RFC 3879 for what came before). */
const PRIVATE = {
  ipv4: ['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.168.0.0/16'],
  ipv6: ['fc00::/7', 'fec0::/10'],
} as const;
for (const family of ['ipv4', 'ipv6'] as const)
  for (const [list, networks] of [
    [LISTS[family].local, LOCAL[family]],
    [LISTS[family].own, PRIVATE[family]],
  ] as const)
    for (const network of networks) {
      const [address = '', prefix] = network.split('/');
      list.addSubnet(address, Number(prefix), family);
    }

/** Whether DNS may give this address for an allowed name: a name of a stranger must not lead back into this host. */
export function mayResolveTo(address: string, allowPrivate: boolean): boolean {
  const kind = isIP(address);
  // A zone (RFC 4007) is of the link; and what is no address, nobody has judged.
  if (kind === 0 || address.includes('%')) return false;
  const family = kind === 6 ? 'ipv6' : 'ipv4';
  const { local, own } = LISTS[family];
  return !local.check(address, family) && (allowPrivate || !own.check(address, family));
}

/** Addresses of a name. */
export type Resolve = (host: string) => Promise<readonly string[]>;

export const resolveByDns: Resolve = async (host) =>
  (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address);

/**
 * The address to connect to. One that the configuration names is taken as it is; a name is resolved once, and what it
 * resolves to is what is connected to.
 *
 * @returns undefined when no address of the name may be reached
 */
export async function addressOf(
  host: string,
  allowPrivate: boolean,
  resolve: Resolve,
): Promise<string | undefined> {
  if (isIP(host) !== 0) return host;
  return (await resolve(host)).find((address) => mayResolveTo(address, allowPrivate));
}

import { GatewayError } from '../errors.ts';

/** A network in CIDR form, IPv4. */
type Network = { readonly address: number; readonly prefix: number };

/** Where the tunnel addresses of guests come from. */
export type AddressPlan = {
  /** The gateway's own address. */
  readonly own: string;
  /** As configured, with its prefix: what guests are told. */
  readonly ownWithPrefix: string;
  /** Whether an address is one that a guest may have. */
  isFree(address: string): boolean;
  /** Whether a guest may have the address from whichever node of the network: not reserved, not ours. */
  isGuests(address: string): boolean;
  /** Addresses of guests in ascending order. */
  clients(): Iterable<string>;
};

/**
 * Checks the configured networks (docs/protocol/gateway.md section 6.1).
 * @throws GatewayError `config-invalid` with the original's messages
 */
export function addressPlan(config: {
  readonly ip: string;
  readonly reservedNet: readonly string[];
  readonly clientIpRange: string;
}): AddressPlan {
  const own = parseNetwork(config.ip);
  const range = parseNetwork(config.clientIpRange);
  const reserved = config.reservedNet.map(parseNetwork);
  for (const net of reserved)
    if (!holdsNetwork(own, net)) throw invalid('Reserved net is not in the network');
  if (!reserved.some((net) => holds(net, own.address)))
    throw invalid('Wg peer IP is not in the reserved net');
  if (!holdsNetwork(own, range)) throw invalid('Client IP range is not in the network');
  const broadcast = last(own);
  const isGuests = (address: number): boolean =>
    holds(own, address) &&
    address !== first(own) &&
    address !== broadcast &&
    address !== own.address &&
    !reserved.some((net) => holds(net, address));
  const isFree = (address: number): boolean =>
    address > first(range) && address < last(range) && isGuests(address);
  return {
    own: textOf(own.address),
    ownWithPrefix: config.ip,
    isFree: (address) => {
      const number = numberOf(address);
      return number !== undefined && isFree(number);
    },
    isGuests: (address) => {
      const number = numberOf(address);
      return number !== undefined && isGuests(number);
    },
    *clients() {
      for (let address = first(range) + 1; address < last(range); address++)
        if (isFree(address)) yield textOf(address);
    },
  };
}

function parseNetwork(text: string): Network {
  const [address = '', prefix = ''] = text.split('/');
  const number = numberOf(address);
  const bits = Number(prefix);
  if (number === undefined || !/^\d{1,2}$/.test(prefix) || bits > 32)
    throw invalid(`${JSON.stringify(text)} is no IPv4 network such as 10.0.0.0/24`);
  return { address: number, prefix: bits };
}

function numberOf(address: string): number | undefined {
  const parts = address.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255))
    return undefined;
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0);
}

function textOf(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
}

function first({ address, prefix }: Network): number {
  return prefix === 0 ? 0 : (address & (0xffffffff << (32 - prefix))) >>> 0;
}

function last(network: Network): number {
  return first(network) + 2 ** (32 - network.prefix) - 1;
}

function holds(network: Network, address: number): boolean {
  return address >= first(network) && address <= last(network);
}

function holdsNetwork(outer: Network, inner: Network): boolean {
  return inner.prefix >= outer.prefix && holds(outer, first(inner));
}

function invalid(message: string): GatewayError {
  return new GatewayError('config-invalid', message);
}

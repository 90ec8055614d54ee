import { isIP } from 'node:net';
import { VmmError } from '../../errors.ts';
import type { VmmConfig } from '../config/vmm-config.ts';

/** A port of the host that leads to one of a machine. */
export interface MappedPort {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly from: number;
  readonly to: number;
}

type Wanted = {
  readonly protocol: string;
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly vmPort: number;
};

const MAX_PORTS = 64;

/**
 * Checks the ports that a machine asks for against the configured ranges, each other, and those of other machines.
 *
 * @throws VmmError `bad_option`, `port_in_use`
 */
export function checkPorts(
  wanted: readonly Wanted[],
  { enabled, address, range }: VmmConfig['cvm']['port_mapping'],
  others: readonly (MappedPort & { readonly machine: string })[],
): MappedPort[] {
  if (wanted.length === 0) return [];
  if (!enabled)
    throw new VmmError('bad_option', 'Port mapping is disabled', {
      expected: 'no ports, or cvm.port_mapping.enabled = true',
      found: `${wanted.length} ports`,
    });
  if (wanted.length > MAX_PORTS)
    throw new VmmError('bad_option', `A machine has ${MAX_PORTS} mapped ports at most`, {
      expected: `at most ${MAX_PORTS}`,
      found: String(wanted.length),
    });
  const taken = [...others];
  return wanted.map((port) => {
    const mapped = mappedPort(port, address);
    if (!range.some((one) => isWithin(one, mapped)))
      throw new VmmError('bad_option', `Port mapping is not allowed for ${shown(mapped)}`, {
        expected: range.map(({ protocol, from, to }) => `${protocol} ${from} to ${to}`).join(', ') || 'none',
        found: `${mapped.protocol} ${mapped.from}`,
      });
    const other = taken.find((one) => overlaps(one, mapped));
    if (other !== undefined)
      throw new VmmError('port_in_use', `${shown(mapped)} is mapped to ${other.machine} already`, {
        expected: 'a port of no other machine',
        found: shown(other),
      });
    taken.push({ ...mapped, machine: 'this machine' });
    return mapped;
  });
}

function mappedPort({ protocol, hostAddress, hostPort, vmPort }: Wanted, standard: string): MappedPort {
  const address = hostAddress === '' ? standard : hostAddress;
  if (protocol !== 'tcp' && protocol !== 'udp')
    throw new VmmError('bad_option', `Port ${hostPort}: unknown protocol`, {
      expected: 'tcp or udp',
      found: JSON.stringify(protocol.slice(0, 20)),
    });
  if (isIP(address) !== 4)
    throw new VmmError('bad_option', `Port ${hostPort}: the host address is no IPv4 address`, {
      expected: 'such as 127.0.0.1',
      found: JSON.stringify(address.slice(0, 64)),
    });
  for (const [name, port] of [
    ['host port', hostPort],
    ['port in the machine', vmPort],
  ] as const)
    if (!(port >= 1 && port <= 65_535))
      throw new VmmError('bad_option', `The ${name} is no port`, {
        expected: '1 to 65535',
        found: String(port),
      });
  return { protocol, address, from: hostPort, to: vmPort };
}

const isWithin = (
  range: { protocol: string; from: number; to: number },
  { protocol, from }: MappedPort,
): boolean => range.protocol === protocol && range.from <= from && from <= range.to;

/** Whether two mappings cannot be at the same time: every address includes all of them. */
function overlaps(one: MappedPort, other: MappedPort): boolean {
  const sameAddress = one.address === other.address || [one, other].some(({ address }) => address === ANY);
  return sameAddress && one.protocol === other.protocol && one.from === other.from;
}

const ANY = '0.0.0.0';

const shown = ({ protocol, address, from }: MappedPort): string => `${protocol} ${address}:${from}`;

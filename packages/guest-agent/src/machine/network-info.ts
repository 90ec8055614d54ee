import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

/** Interfaces that the host may know about (docs/protocol/host-shared.md section 7). */
const SHOWN = /^(?:dstack-wg0|enp.*|eth.*)$/;
const WG_TIMEOUT_MS = 5_000;

/** Members of NetworkInformation. */
export interface NetworkInfo {
  readonly dnsServers: string[];
  readonly gateways: { address: string }[];
  readonly interfaces: {
    name: string;
    addresses: { address: string; prefix: number }[];
    rxBytes: bigint;
    txBytes: bigint;
    rxErrors: bigint;
    txErrors: bigint;
  }[];
  readonly wgInfo: string;
}

/** Reads the network state; what cannot be read is empty. */
export async function networkInfo(): Promise<NetworkInfo> {
  return { dnsServers: dnsServers(), gateways: gateways(), interfaces: interfaces(), wgInfo: await wgInfo() };
}

function dnsServers(): string[] {
  return [...readText('/etc/resolv.conf').matchAll(/^nameserver\s+(\S+)/gm)].map(([, server = '']) => server);
}

/** Default routes of proc(5) `net/route`: addresses are 32-bit hex in memory order. */
function gateways(): { address: string }[] {
  const rows = readText('/proc/net/route').split('\n').slice(1);
  return rows.flatMap((row) => {
    const [, destination, gateway = ''] = row.split('\t');
    if (destination !== '00000000' || !/^[0-9A-F]{8}$/.test(gateway)) return [];
    const bytes = gateway.match(/../g) ?? [];
    return [
      {
        address: bytes
          .toReversed()
          .map((byte) => Number.parseInt(byte, 16))
          .join('.'),
      },
    ];
  });
}

function interfaces(): NetworkInfo['interfaces'] {
  return Object.entries(networkInterfaces())
    .filter(([name]) => SHOWN.test(name))
    .map(([name, addresses]) => {
      const counter = (file: string): bigint => {
        const text = readText(`/sys/class/net/${name}/statistics/${file}`).trim();
        return /^[0-9]+$/.test(text) ? BigInt(text) : 0n;
      };
      return {
        name,
        addresses: (addresses ?? []).map(({ address, cidr }) => ({
          address,
          prefix: Number(cidr?.split('/')[1] ?? 0),
        })),
        rxBytes: counter('rx_bytes'),
        txBytes: counter('tx_bytes'),
        rxErrors: counter('rx_errors'),
        txErrors: counter('tx_errors'),
      };
    });
}

function wgInfo(): Promise<string> {
  return new Promise((resolve) => {
    execFile('wg', [], { timeout: WG_TIMEOUT_MS, maxBuffer: 64 * 1024 }, (error, stdout) =>
      resolve(error === null ? stdout : error.message),
    );
  });
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

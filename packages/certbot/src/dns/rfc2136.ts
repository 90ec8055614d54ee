import { randomInt } from 'node:crypto';
import { lookup, Resolver } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import type { CaaRecord } from '../caa.ts';
import { CertbotError } from '../errors.ts';
import type { DnsProvider } from './dns-provider.ts';
import { type RecordChange, signedUpdate, type TsigKey, updateResult } from './dns-update.ts';

export type Rfc2136Options = {
  readonly host: string;
  readonly port: number;
  readonly zone: string;
  readonly key: TsigKey;
  readonly timeoutMs?: number;
  /** Unix seconds. */
  readonly now?: () => number;
};

const TIMEOUT_MS = 10_000;
const MAX_ANSWER = 65_535;
const CAA_TTL = 300;
/** RFC 1035 section 4.1.1, RFC 2136 section 2.2 and RFC 8945 section 3. */
const CODES: Readonly<Record<number, string>> = {
  1: 'the server does not understand the update',
  2: 'the server failed',
  4: 'the server takes no updates',
  5: 'the key may not change this',
  9: 'the server is not authoritative for the zone, or does not know the key',
  10: 'the name is not in the zone',
  16: 'the signature is wrong',
  17: 'the server does not know the key',
  18: "the server's clock and ours differ",
};

/** A zone that takes signed updates over TCP: BIND, Knot, PowerDNS and others. */
export function rfc2136(options: Rfc2136Options): DnsProvider {
  const { key, zone, now = () => Math.floor(Date.now() / 1000) } = options;

  const change = async (changes: readonly RecordChange[]): Promise<void> => {
    if (changes.length === 0) return;
    const asked = { id: randomInt(1, 65_536), time: now() };
    const { message, mac } = signedUpdate(zone, changes, key, asked);
    const answer = await exchange(options, message);
    const code = updateResult(answer, asked, mac, key);
    if (code === 0) return;
    const why = code === undefined ? 'its answer is not signed by the key' : (CODES[code] ?? `code ${code}`);
    throw failed(options, why);
  };

  return {
    addTxt: async (name, txt, ttl) => {
      const record = { name, ttl, data: { txt } };
      await change([{ ...record, action: 'add' }]);
      return () => change([{ ...record, action: 'remove' }]);
    },
    listCaa: async (name) => await caaAt(options, name),
    changeCaa: (name, add, remove) =>
      change([
        ...remove.map((caa) => ({ name, ttl: 0, data: { caa }, action: 'remove' as const })),
        ...add.map((caa) => ({ name, ttl: CAA_TTL, data: { caa }, action: 'add' as const })),
      ]),
  };
}

/** Asked of the server that is changed: what it has counts, not what others still remember. */
async function caaAt(options: Rfc2136Options, name: string): Promise<readonly CaaRecord[]> {
  const { host, port, timeoutMs = TIMEOUT_MS } = options;
  const resolver = new Resolver({ timeout: timeoutMs, tries: 1 });
  try {
    const address = isIP(host) === 0 ? (await lookup(host)).address : host;
    resolver.setServers([isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`]);
    const found = (await resolver.resolveCaa(name)) as unknown as Readonly<Record<string, unknown>>[];
    return found.flatMap((record) =>
      Object.entries(record).flatMap(([tag, value]) => (typeof value === 'string' ? [{ tag, value }] : [])),
    );
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENODATA' || code === 'ENOTFOUND') return [];
    throw failed(options, `its CAA records cannot be read: ${code}`);
  }
}

/** One message each way, with their lengths before them (RFC 1035 section 4.2.2). */
function exchange(options: Rfc2136Options, message: Buffer): Promise<Buffer> {
  const { host, port, timeoutMs = TIMEOUT_MS } = options;
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let got: Buffer = Buffer.alloc(0);
    const fail = (why: string): void => {
      socket.destroy();
      reject(failed(options, why));
    };
    socket.setTimeout(timeoutMs, () => fail('it does not answer'));
    socket.once('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
    socket.once('close', () => fail('it closed the connection'));
    socket.once('connect', () => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(message.length);
      socket.write(Buffer.concat([length, message]));
    });
    socket.on('data', (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]);
      if (got.length > MAX_ANSWER + 2) return fail('its answer is too long');
      if (got.length < 2 || got.length < 2 + got.readUInt16BE(0)) return;
      socket.removeAllListeners('close');
      socket.destroy();
      resolve(got.subarray(2, 2 + got.readUInt16BE(0)));
    });
  });
}

function failed({ host, port, zone }: Rfc2136Options, why: string): CertbotError {
  return new CertbotError('dns-failed', `The zone ${zone} cannot be changed at ${host} port ${port}: ${why}`);
}

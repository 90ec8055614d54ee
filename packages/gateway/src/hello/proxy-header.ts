import { isIPv4, isIPv6 } from 'node:net';

/** Addresses of a connection as a PROXY header says them; absent when the header names none (LOCAL, UNKNOWN). */
export type ProxiedConnection = {
  readonly version: 1 | 2;
  readonly source?: Endpoint;
  readonly destination?: Endpoint;
};

type Endpoint = { readonly address: string; readonly port: number };

/** What the first bytes of a connection from a load balancer say. */
export type ProxyHeader =
  /** Reading again makes sense with so many bytes. */
  | { readonly kind: 'more'; readonly atLeast: number }
  | { readonly kind: 'header'; readonly length: number; readonly connection: ProxiedConnection }
  | { readonly kind: 'refused'; readonly why: string };

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const V2_FIXED = 16;
/** Longest header of version 1, the line end included (PROXY protocol section 2.1). */
const MAX_V1 = 107;
/** Longest header of version 2 that is taken, with all its type-length-values. */
const MAX_V2 = 2_048;
const TCP4 = 0x11;
const TCP6 = 0x21;

/** Reads a header of version 1 or 2 (the PROXY protocol, sections 2.1 and 2.2) from the beginning of a connection. */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  const start = bytes.subarray(0, 6).toString('latin1');
  if ('PROXY '.startsWith(start) && bytes.length > 0) return readV1(bytes);
  const signature = bytes.subarray(0, SIGNATURE.length);
  if (!signature.equals(SIGNATURE.subarray(0, signature.length))) return refused('no valid header');
  return bytes.length < V2_FIXED ? { kind: 'more', atLeast: V2_FIXED } : readV2(bytes);
}

/** The header that says the same to the application, in the version it came in. */
export function writeProxyHeader({ version, source, destination }: ProxiedConnection): Buffer {
  return version === 1 ? writeV1(source, destination) : writeV2(source, destination);
}

function readV1(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, MAX_V1).indexOf('\r\n');
  if (end < 0)
    return bytes.length < MAX_V1
      ? { kind: 'more', atLeast: bytes.length + 1 }
      : refused('the line is too long');
  const line = bytes.subarray(0, end).toString('latin1');
  const length = end + 2;
  if (/^PROXY UNKNOWN( |$)/.test(line)) return { kind: 'header', length, connection: { version: 1 } };
  const match = /^PROXY TCP([46]) (\S+) (\S+) (\d{1,5}) (\d{1,5})$/.exec(line);
  if (!match) return refused('the line is malformed');
  const [, family, from = '', to = '', fromPort, toPort] = match;
  const source = { address: from, port: Number(fromPort) };
  const destination = { address: to, port: Number(toPort) };
  const isFamily = family === '4' ? isIPv4 : isIPv6;
  const isGood = [source, destination].every(
    ({ address, port }) => !address.includes('%') && isFamily(address) && port <= 65_535,
  );
  if (!isGood) return refused('an address or a port is malformed');
  return { kind: 'header', length, connection: { version: 1, source, destination } };
}

function readV2(bytes: Buffer): ProxyHeader {
  const [version, family, size] = [bytes[12]!, bytes[13]!, bytes.readUInt16BE(14)];
  const length = V2_FIXED + size;
  if (length > MAX_V2) return refused('the header is too long');
  if (version !== 0x20 && version !== 0x21) return refused('the version or the command is unknown');
  if (bytes.length < length) return { kind: 'more', atLeast: length };
  const isLocal = version === 0x20;
  if (isLocal || (family !== TCP4 && family !== TCP6))
    return { kind: 'header', length, connection: { version: 2 } };
  const width = family === TCP4 ? 4 : 16;
  if (size < 2 * width + 4) return refused('the addresses are cut short');
  const at = (offset: number) => bytes.subarray(V2_FIXED + offset, V2_FIXED + offset + width);
  const portAt = (offset: number) => bytes.readUInt16BE(V2_FIXED + offset);
  const connection = {
    version: 2 as const,
    source: { address: addressText(at(0)), port: portAt(2 * width) },
    destination: { address: addressText(at(width)), port: portAt(2 * width + 2) },
  };
  return { kind: 'header', length, connection };
}

function writeV1(source?: Endpoint, destination?: Endpoint): Buffer {
  if (!source || !destination || isIPv4(source.address) !== isIPv4(destination.address))
    return Buffer.from('PROXY UNKNOWN\r\n');
  const family = isIPv4(source.address) ? 'TCP4' : 'TCP6';
  const { address: to, port: toPort } = destination;
  return Buffer.from(`PROXY ${family} ${source.address} ${to} ${source.port} ${toPort}\r\n`);
}

function writeV2(source?: Endpoint, destination?: Endpoint): Buffer {
  if (!source || !destination || isIPv4(source.address) !== isIPv4(destination.address))
    return Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x00, 0, 0])]);
  const addresses = [addressBytes(source.address), addressBytes(destination.address)];
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  const body = Buffer.concat([...addresses, ports]);
  const family = isIPv4(source.address) ? TCP4 : TCP6;
  return Buffer.concat([SIGNATURE, Buffer.from([0x21, family, body.length >> 8, body.length & 255]), body]);
}

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16));
  // `URL` writes the canonical form of RFC 5952.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  const list = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = list.split('::');
  const groups = (text: string | undefined) => (text ? text.split(':') : []);
  const missing = 8 - groups(head).length - groups(tail).length;
  const all =
    tail === undefined ? groups(head) : [...groups(head), ...Array(missing).fill('0'), ...groups(tail)];
  const bytes = Buffer.alloc(16);
  for (const [index, group] of all.entries()) bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * index);
  return bytes;
}

function refused(why: string): ProxyHeader {
  return { kind: 'refused', why: `no valid PROXY protocol header: ${why}` };
}

import { isIPv4, isIPv6 } from 'node:net';
import { der, utf8 } from '@dstack-cloud/encoding';
import { RaTlsError } from '../errors.ts';
import { checkText } from './distinguished-name.ts';

/** Context tags of GeneralName, RFC 5280 section 4.2.1.6. */
const DNS_NAME = 2;
const IP_ADDRESS = 7;

/** Contents of a subjectAltName: a text that is an IP address becomes iPAddress, any other dNSName. */
export function encodeSubjectAltNames(names: readonly string[]): Uint8Array {
  return der.sequence(...names.map(generalName));
}

/** @throws RaTlsError `invalid-field` for what no dNSName can hold */
export function checkAltName(name: string): void {
  checkText('Alternative name', name);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: IA5String is ASCII
  if (!/^[\u0000-\u007f]*$/.test(name)) {
    throw new RaTlsError('invalid-field', `Invalid IA5String: '${name}'`);
  }
}

function generalName(name: string): Uint8Array {
  const address = ipAddressBytes(name);
  if (address) return der.implicit(IP_ADDRESS, address);
  checkAltName(name);
  return der.implicit(DNS_NAME, utf8(name));
}

/** The 4 or 16 bytes of an IP address, or undefined for any other text (zone identifiers included). */
function ipAddressBytes(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  // An IPv4 tail stands for the last two groups (RFC 4291 section 2.2).
  const hexOnly = text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => {
    const group = (high: string, low: string): string => (Number(high) * 256 + Number(low)).toString(16);
    return `${group(a, b)}:${group(c, d)}`;
  });
  const [head = '', tail] = hexOnly.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  const groups = [...left, ...Array.from({ length: zeros }, () => '0'), ...right];
  return Uint8Array.from(
    groups.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]),
  );
}

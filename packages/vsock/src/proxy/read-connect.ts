import type { Duplex } from 'node:stream';
import { readLine } from '../read-line.ts';
import type { ProxyLimits } from './proxy-config.ts';
import { type AllowedTarget, parseTarget } from './targets.ts';

/** What a stranger asks for, or the status that answers it. */
export type ConnectRequest =
  | { readonly target: AllowedTarget }
  | { readonly status: 400 | 405 | 408 | 431; readonly reason: string };

const METHOD = /^[A-Z]{1,16}$/;

/** Reads a CONNECT request within the limits of bytes and time (RFC 9112 section 3.2.3); header fields are not looked at. */
export async function readConnect(
  stream: Duplex,
  { header_bytes: maxBytes, header_seconds: seconds }: Pick<ProxyLimits, 'header_bytes' | 'header_seconds'>,
): Promise<ConnectRequest> {
  const deadline = performance.now() + seconds * 1000;
  let left = maxBytes;
  const next = async (): Promise<string> => {
    const line = await readLine(stream, left, Math.max(1, deadline - performance.now()));
    left -= line.length + 1;
    return line.replace(/\r$/, '');
  };
  try {
    const [method = '', authority = '', version = '', ...more] = (await next()).split(' ');
    if (!METHOD.test(method) || !/^HTTP\/1\.[01]$/.test(version) || more.length > 0)
      return { status: 400, reason: 'the request line is not HTTP/1.1' };
    while ((await next()) !== '') if (left <= 0) return { status: 431, reason: 'the header is too long' };
    if (method !== 'CONNECT') return { status: 405, reason: `method ${method}` };
    const target = parseTarget(authority);
    return target === undefined ? { status: 400, reason: 'the target is not HOST:PORT' } : { target };
  } catch (error) {
    if (/no answer within/.test((error as Error).message))
      return { status: 408, reason: 'the header did not come in time' };
    if (left <= 0 || /no end/.test((error as Error).message))
      return { status: 431, reason: 'the header is too long' };
    return { status: 400, reason: (error as Error).message };
  }
}

import type { Duplex } from 'node:stream';
import { VsockError } from './errors.ts';
import { readLine } from './read-line.ts';

const MAX_HEADER_BYTES = 8 * 1024;
const TIMEOUT_MS = 30_000;

/**
 * Asks the proxy at the other end of a stream for a tunnel (RFC 9110 section 9.3.6); what then flows is the target's.
 *
 * @throws VsockError `proxy-refused` with the proxy's status, `proxy-broken`
 */
export async function connectTunnel(
  stream: Duplex,
  host: string,
  port: number,
  timeoutMs: number = TIMEOUT_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  const next = (): Promise<string> =>
    readLine(stream, MAX_HEADER_BYTES, Math.max(1, deadline - performance.now()));
  const target = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  try {
    stream.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
    const status = /^HTTP\/1\.[01] (\d{3})(?: |\r|$)/.exec(await next())?.[1];
    if (status === undefined) throw new VsockError('proxy-broken', 'The proxy does not speak HTTP');
    if (!status.startsWith('2'))
      throw new VsockError('proxy-refused', `The proxy refuses ${target} (status ${status})`, {
        expected: '200',
        found: status,
      });
    await skipHeaders(next);
  } catch (cause) {
    stream.destroy();
    if (cause instanceof VsockError) throw cause;
    throw new VsockError('proxy-broken', `No tunnel through the proxy: ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function skipHeaders(next: () => Promise<string>): Promise<void> {
  let bytes = 0;
  for (;;) {
    const line = await next();
    bytes += line.length;
    if (line === '' || line === '\r') return;
    if (bytes > MAX_HEADER_BYTES)
      throw new VsockError('proxy-broken', 'The headers of the proxy have no end');
  }
}

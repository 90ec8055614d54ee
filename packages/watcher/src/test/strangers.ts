/** Strangers at a listener of this machine, byte by byte: what each of them gets, for the tests of whoever listens. */
import { connect, type Socket } from 'node:net';

/** How a listener behaved. */
export type Conduct = {
  /** Status of the answer to each odd request, by name; empty for a connection that was cut without one. */
  readonly statuses: Readonly<Record<string, string>>;
  /** Of 64 connections from one address that say nothing: those that are still open after others were served. */
  readonly silent: number;
  /** Status of each answer to an honest client meanwhile. */
  readonly honest: readonly string[];
};

const ODD_PATHS = [
  ...['/../../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '//etc/passwd', '/%00', '/%', '/__proto__'],
  ...['/constructor', '/metrics/', '/metrics%2f', '/.git/config', `/${'a/'.repeat(2_000)}`, '*'],
];
/** What a listener that serves this machine alone answers to them. */
export const REFUSALS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(ODD_PATHS.map((path) => [nameOf(path), '404'])),
  'host of another site': '421',
  'host that starts like this machine': '421',
  'target of another site': '421',
  'two hosts': '400',
  'request of another site': '403',
  'huge header': '431',
  'huge path': '431',
  POST: '404',
  DELETE: '404',
  'two lengths': '400',
  'length and chunks': '400',
  'header without a colon': '400',
  TLS: '400',
  'no HTTP': '400',
};
const CROWD = 64;
/** Headers have ten seconds; who is late is looked for every two. */
const LONGEST_MS = 30_000;

/** Attacks the listener at a port of 127.0.0.1. @param page a path that answers 200 */
export async function attackListener(port: number, page: string): Promise<Conduct> {
  const local = `127.0.0.1:${port}`;
  const get = (path: string, host = local, more = ''): string =>
    `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${more}\r\n`;
  const silent = Array.from({ length: CROWD }, () => raw(port, '127.0.11.2'));
  const requests: readonly (readonly [name: string, bytes: string])[] = [
    ...ODD_PATHS.map((path) => [nameOf(path), get(path)] as const),
    ['host of another site', get(page, 'evil.example')],
    ['host that starts like this machine', get(page, `127.0.0.1.evil.example:${port}`)],
    ['target of another site', get(`http://evil.example${page}`)],
    ['two hosts', get(page, local, 'Host: evil.example\r\n')],
    ['request of another site', get(page, local, 'Origin: https://evil.example\r\n')],
    ['huge header', get(page, local, `X: ${'x'.repeat(200_000)}\r\n`)],
    ['huge path', get(`/${'x'.repeat(200_000)}`)],
    ['POST', `POST ${page} HTTP/1.1\r\nHost: ${local}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`],
    ['DELETE', `DELETE ${page} HTTP/1.1\r\nHost: ${local}\r\nConnection: close\r\n\r\n`],
    ['two lengths', get(page, local, 'Content-Length: 5\r\nContent-Length: 6\r\n')],
    [
      'length and chunks',
      `POST ${page} HTTP/1.1\r\nHost: ${local}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['header without a colon', `GET ${page} HTTP/1.1\r\nHost: ${local}\r\nA\r\n\r\n`],
    ['TLS', '\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03'.padEnd(64, '\x00')],
    ['no HTTP', 'SSH-2.0-x\r\n\r\n'],
  ];
  const statuses: Record<string, string> = {};
  const honest: string[] = [];
  for (const [index, [name, bytes]] of requests.entries()) {
    const text = await send(port, `127.0.12.${1 + (index % 8)}`, bytes);
    statuses[name] = statusOf(text);
    if (index % 6 === 0) honest.push(statusOf(await send(port, '127.0.0.1', get(page))));
  }
  const open = silent.filter(({ closed }) => !closed).length;
  for (const socket of silent) socket.destroy();
  return { statuses, silent: open, honest };
}

function nameOf(path: string): string {
  return `path ${path.slice(0, 40)}`;
}

function statusOf(text: string): string {
  return /^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1] ?? '';
}

function raw(port: number, from: string): Socket {
  const socket = connect({ port, host: '127.0.0.1', localAddress: from });
  socket.on('error', () => undefined);
  socket.resume();
  return socket;
}

/** All that comes back for bytes, until the listener ends the connection. */
function send(port: number, from: string, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = raw(port, from);
    let text = '';
    const timer = setTimeout(() => socket.destroy(), LONGEST_MS);
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.once('close', () => {
      clearTimeout(timer);
      resolve(text);
    });
    socket.write(bytes, 'latin1');
  });
}

/** Sends headers that never end, a few bytes at a time. @returns milliseconds after which the listener ended it */
export function neverEndingHeaders(port: number): Promise<number> {
  return new Promise((resolve) => {
    const since = performance.now();
    const socket = raw(port, '127.0.11.1');
    const timer = setInterval(() => socket.write('a: b\r\n'), 200);
    const late = setTimeout(() => socket.destroy(), LONGEST_MS);
    socket.once('close', () => {
      clearInterval(timer);
      clearTimeout(late);
      resolve(performance.now() - since);
    });
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n');
  });
}

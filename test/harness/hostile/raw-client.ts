/** Connections byte by byte, from any loopback address. */
import { readFileSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { EntryPoint } from './entry-points.ts';

export type Raw = Socket & {
  /** All that came so far. */
  text(): string;
  /** This end's port. */
  readonly port: number;
};

type Target = Pick<EntryPoint, 'port' | 'isTls'>;

/** A connection; over TLS, after the handshake, where the entry point has it. Rejects when it is turned away before. */
export function open(
  target: Target,
  options: { from?: string; identity?: { cert: string; key: string } | undefined; isPlain?: boolean } = {},
): Promise<Raw> {
  const { from = '127.0.0.1', identity, isPlain = false } = options;
  const place = { host: '127.0.0.1', port: target.port, localAddress: from };
  const isTls = target.isTls && !isPlain;
  return new Promise((resolve, reject) => {
    const socket = isTls
      ? connectTls({ ...place, rejectUnauthorized: false, ...identity })
      : connectTcp(place);
    let text = '';
    let port = 0;
    const raw = Object.assign(socket, { text: () => text });
    Object.defineProperty(raw, 'port', { get: () => port });
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed before it was open')));
    socket.once(isTls ? 'secureConnect' : 'connect', () => {
      port = socket.localPort ?? 0;
      socket.on('error', () => undefined);
      resolve(raw as Raw);
    });
  });
}

/** Whether the server still has its end of a connection: its client may not look. */
export function isHeld({ port }: Target, clientPort: number): boolean {
  const hex = (value: number): string => value.toString(16).toUpperCase().padStart(4, '0');
  const tables = ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFileSync(path, 'utf8'));
  return tables.some((table) =>
    table.split('\n').some((line) => {
      const [, local = '', remote = '', state = ''] = line.trim().split(/\s+/);
      // Established, or the client has closed its end.
      const isOpen = state === '01' || state === '08';
      return isOpen && local.endsWith(`:${hex(port)}`) && remote.endsWith(`:${hex(clientPort)}`);
    }),
  );
}

/** A request's head. */
export function head(method: string, path: string, headers: Record<string, string | number> = {}): string {
  const lines = Object.entries({ Host: 'localhost', ...headers }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/** How many answers of a status are in a text. */
export function answers(text: string, status: number): number {
  return text.split(`HTTP/1.1 ${status} `).length - 1;
}

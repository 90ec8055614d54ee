/** A static file server on loopback: browsers give WebCrypto to `http://127.0.0.1`, but not to other names. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, extname, join } from 'node:path';

const TYPES: Readonly<Record<string, string>> = { '.html': 'text/html', '.js': 'text/javascript' };

export interface StaticServer {
  readonly url: string;
  /** Paths that were asked for, in order. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

/**
 * @param directory its files, by name
 * @param extra further files, by name, or what makes them from the query; they may be fetched from other origins
 */
export async function serveDirectory(
  directory: string,
  extra: Readonly<Record<string, Uint8Array | string | ((query: URLSearchParams) => string)>> = {},
): Promise<StaticServer> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
    const name = basename(pathname);
    const made = Object.hasOwn(extra, name) ? extra[name] : undefined;
    requests.push(request.url ?? '/');
    const body =
      made === undefined
        ? readFile(join(directory, name || 'index.html'))
        : Promise.resolve(typeof made === 'function' ? made(searchParams) : made);
    body.then(
      (bytes) => {
        const type = TYPES[extname(name || 'index.html')] ?? 'application/octet-stream';
        response.writeHead(200, { 'content-type': type, 'access-control-allow-origin': '*' });
        response.end(bytes);
      },
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: () =>
      new Promise((closed) => {
        server.closeAllConnections();
        server.close(() => closed());
      }),
  };
}

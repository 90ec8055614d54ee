import { createServer, type RequestListener, type Server } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { CONNECTION_LIMITS, configureServer } from '@dstack-cloud/prpc';

type Documents = Readonly<Record<string, () => Promise<string>>>;

/** Serves the gateway's own names over connections whose TLS ended already. */
export type OwnSite = { serve(socket: TLSSocket, id: 'gateway' | 'health'): void; close(): void };

/**
 * `https://gateway.<base domain>/` and `https://health.<base domain>/` (docs/protocol/gateway.md section 5).
 * @param documents JSON by path, such as `/acme-info`
 */
export function createOwnSite(documents: Documents): OwnSite {
  const sites = { gateway: siteOf(gateway(documents)), health: siteOf(health) };
  return {
    serve: (socket, id) => void sites[id].emit('connection', socket),
    close: () => {
      for (const site of Object.values(sites)) site.closeAllConnections();
    },
  };
}

function siteOf(handler: RequestListener): Server {
  const server = configureServer(createServer(handler), CONNECTION_LIMITS);
  // What servers begin when they listen, such as looking for connections that are late.
  server.emit('listening');
  return server;
}

function gateway(documents: Documents): RequestListener {
  const index = JSON.stringify({ type: 'dstack gateway', paths: ['/index', ...Object.keys(documents)] });
  const pages: Documents = { '/index': async () => index, ...documents };
  return (request, response) => {
    if (request.method !== 'GET') return void response.writeHead(405).end();
    const [path = ''] = (request.url ?? '').split('?');
    const bare = path.replace(/^(\/\.dstack)+(?=\/)/, '');
    if (bare === '/health') return void response.writeHead(200).end();
    if (!Object.hasOwn(pages, bare)) return void response.writeHead(404).end();
    pages[bare]!().then(
      (json) => response.writeHead(200, { 'Content-Type': 'application/json' }).end(json),
      () => response.writeHead(503).end(),
    );
  };
}

const health: RequestListener = (request, response) => {
  response.writeHead(request.method === 'GET' && request.url === '/' ? 200 : 404).end();
};

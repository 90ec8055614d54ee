/** Stands before an ACME authority and counts the orders that are made there. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, request } from 'node:https';
import { join } from 'node:path';

export type CountedAuthority = {
  /** Address of the directory. */
  readonly directory: string;
  /** PEM file with the CA of this server's certificate. */
  readonly caFile: string;
  readonly orders: () => number;
  close(): void;
};

/** Orders of RFC 8555 section 7.4 go to the address that the directory calls `newOrder`. */
export async function countedAuthority(
  folder: string,
  directory: string,
  caFile: string,
  address: string,
): Promise<CountedAuthority> {
  const [cert, key] = [join(folder, 'counter.pem'), join(folder, 'counter.key')];
  const made = '-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1';
  const name = ['-addext', `subjectAltName=IP:${address}`];
  execFileSync('openssl', ['req', ...made.split(' '), ...name, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  });
  const target = new URL(directory);
  const ca = readFileSync(caFile);
  let orders = 0;
  const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (incoming, response) => {
    // The authority builds the addresses of its directory from the Host header: ours.
    const outgoing = request(
      {
        host: target.hostname,
        port: target.port,
        ca,
        path: incoming.url,
        method: incoming.method,
        headers: incoming.headers,
      },
      (answer) => {
        if (incoming.url === '/order-plz' && answer.statusCode === 201) orders += 1;
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    outgoing.once('error', () => response.destroy());
    incoming.pipe(outgoing);
  }).listen(0, address);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  return {
    directory: `https://${address}:${port}${target.pathname}`,
    caFile: cert,
    orders: () => orders,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

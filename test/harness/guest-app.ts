/**
 * The application of a guest: a page and WebSockets at 8080 and at 9090, which its app-compose does not open; HTTP/2 without TLS at
 * 50051; TLS of its own at 8443 with CERT and KEY (PEM); TLS with evidence of the agent at SOCKET at 8444. Listens at ADDRESS and
 * says who it is by NAME.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { Server } from 'node:net';
import { createRaTlsServer, DstackClient } from '@dstack-cloud/sdk';

const { ADDRESS: host, NAME: name = '', CERT: cert, KEY: key, SOCKET: socket } = process.env;

const page = createServer((_request, response) => response.end(`page of ${name}`));
// RFC 6455 sections 1.3 and 5.2: each short frame comes back as it came, without its mask.
page.on('upgrade', (request, client) => {
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64');
  client.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  client.on('data', (frame: Buffer) => {
    const length = frame.readUInt8(1) & 0x7f;
    const mask = frame.subarray(2, 6);
    const text = frame.subarray(6, 6 + length).map((byte, at) => byte ^ mask.readUInt8(at % 4));
    client.write(Buffer.concat([Buffer.from([0x81, length]), text]));
  });
  client.on('error', () => client.destroy());
});
const closed = createServer((_request, response) => response.end('a port that is not open'));
const streams = createHttp2Server((request, response) =>
  response.end(`HTTP/${request.httpVersion} of ${name}`),
);

await listen(page, 8080);
await listen(closed, 9090);
await listen(streams, 50_051);
if (cert !== undefined && key !== undefined)
  await listen(
    createHttpsServer({ cert, key }, (_request, response) => response.end(`own TLS of ${name}`)),
    8443,
  );
if (socket !== undefined)
  await listen(
    await createRaTlsServer({
      client: new DstackClient(socket),
      handler: (request, response) => {
        let text = '';
        request.on('data', (chunk) => {
          text += chunk;
        });
        request.on('end', () => response.end(`${name} read ${text}`));
      },
    }),
    8444,
  );
console.log('up');

async function listen(server: Server, port: number): Promise<void> {
  server.listen(port, host);
  await once(server, 'listening');
}

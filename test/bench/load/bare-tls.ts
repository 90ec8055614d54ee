/**
 * The limit that TLS connections at a gateway are measured against: a bare Node TLS server that answers each piece with four bytes.
 * Reads {cert, key} from standard input, writes {port}.
 */
import { createServer } from 'node:tls';

process.stdin.once('data', (data: Buffer) => {
  const { cert, key } = JSON.parse(data.toString('utf8')) as { cert: string; key: string };
  const server = createServer({ cert, key, minVersion: 'TLSv1.2', noDelay: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.on('data', () => socket.write('pong'));
  });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, () =>
    console.log(JSON.stringify({ port: (server.address() as { port: number }).port })),
  );
});
process.stdin.once('end', () => process.exit(0));

/**
 * What stands behind a gateway or a TCP proxy under load: reads {host} from standard input, writes {port}, and the next port
 * streams. The first answers each piece that comes with as many bytes as `ANSWER` has; the second sends until it is closed.
 */
import { createServer, type Socket } from 'node:net';

const ANSWER = Buffer.from('pong');
const PIECE = Buffer.alloc(256 * 1024, 0x2e);

process.stdin.once('data', (data: Buffer) => {
  const { host } = JSON.parse(data.toString('utf8')) as { host: string };
  const answer = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.on('data', () => socket.write(ANSWER));
  });
  const stream = createServer((socket: Socket) => {
    socket.on('error', () => socket.destroy());
    const send = (): void => {
      while (!socket.destroyed && socket.write(PIECE));
    };
    socket.on('drain', send);
    socket.once('data', send);
  });
  const listen = (): void => {
    answer.listen({ port: 0, host, backlog: 4_096 }, () => {
      const { port } = answer.address() as { port: number };
      stream.once('error', () => answer.close(listen));
      stream.listen({ port: port + 1, host }, () => console.log(JSON.stringify({ port })));
    });
  };
  listen();
});
process.stdin.once('end', () => process.exit(0));

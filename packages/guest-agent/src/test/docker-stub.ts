import { createServer } from 'node:http';

function frame(channel: 1 | 2, bytes: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head[0] = channel;
  head.writeUInt32BE(bytes.length, 4);
  return Buffer.concat([head, bytes]);
}

const LOGS = Buffer.concat([
  frame(1, Buffer.from('hello \x1b[31mred\x1b[0m\n')),
  frame(2, Buffer.from('err "q" \\ line\n')),
  frame(1, Buffer.from('ü☃\n')),
  frame(1, Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(' bin\n')])),
]);

const CONTAINERS = [
  {
    Id: 'a'.repeat(64),
    Names: ['/web'],
    Image: 'nginx:1',
    ImageID: `sha256:${'b'.repeat(64)}`,
    Created: 1700000000,
    State: 'running',
    Status: 'Up 5 minutes',
  },
  {
    Id: 'c'.repeat(64),
    Names: ['/<b>x', '/alias'],
    Image: 'b',
    ImageID: `sha256:${'d'.repeat(64)}`,
    Created: 1700000001,
    State: 'exited',
    Status: 'Exited (0) <1>',
  },
];

/** The Docker engine of the recordings, on a Unix socket. */
export async function startDockerStub(socketPath: string): Promise<{ requests: string[]; close(): void }> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    requests.push(path);
    if (path === '/containers/json?all=true') response.end(JSON.stringify(CONTAINERS));
    else if (path.startsWith('/containers/web/logs?')) response.end(LOGS);
    else response.writeHead(404).end('{"message":"No such container: x"}');
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return { requests, close: () => server.close() };
}

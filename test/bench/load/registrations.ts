/**
 * Guests that register again and again, each with a new WireGuard key, so that every answer was written: reads one plan from
 * standard input, writes {perSecond, completed, failed}.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';

type Plan = {
  readonly targets: readonly { readonly host: string; readonly port: number }[];
  readonly sources: readonly string[];
  readonly clients: readonly { readonly cert: string; readonly key: string }[];
  readonly durationMs: number;
};

const chunks: Buffer[] = [];
for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
const plan = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Plan;
let [completed, failed, isMeasured] = [0, 0, false];
let failure: string | undefined;
const sockets: TLSSocket[] = [];
for (const [n, client] of plan.clients.entries()) {
  const { host, port } = plan.targets[n % plan.targets.length]!;
  // A guest has an address of its own: limits are for each network.
  const localAddress = plan.sources[n % plan.sources.length]!;
  const from = { localAddress, host, port };
  const socket = connect({ ...client, ...from, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  socket.setNoDelay(true);
  sockets.push(socket);
}
let isOver = false;
const loops = sockets.map(async (socket) => {
  while (!isOver) {
    const body = JSON.stringify({ client_public_key: randomBytes(32).toString('base64') });
    socket.write(
      `POST /prpc/RegisterCvm?json HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const answer = await answered(socket).catch((error: Error) => `closed: ${error.message}`);
    if (!isMeasured) continue;
    if (answer.startsWith('HTTP/1.1 200')) completed += 1;
    else {
      failed += 1;
      failure ??= answer.slice(0, 400);
      if (answer.startsWith('closed')) return;
    }
  }
});
await new Promise((resolve) => setTimeout(resolve, 500));
isMeasured = true;
const started = performance.now();
await new Promise((resolve) => setTimeout(resolve, plan.durationMs));
const seconds = (performance.now() - started) / 1000;
isMeasured = false;
isOver = true;
await Promise.race([Promise.all(loops), new Promise((resolve) => setTimeout(resolve, 3_000))]);
const report = {
  perSecond: completed / seconds,
  completed,
  failed,
  ...(failure !== undefined && { failure }),
};
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));

function answered(socket: TLSSocket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const take = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      const head = text.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1]);
      if (head < 0 || text.length < head + 4 + length) return;
      socket.off('data', take);
      socket.off('close', gone);
      socket.off('error', reject);
      resolve(text);
    };
    const gone = (): void => reject(new Error('closed'));
    socket.on('data', take);
    socket.once('close', gone);
    socket.once('error', reject);
  });
}

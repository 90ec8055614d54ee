/**
 * The verifier as a program under floods of one address, while another asks at its own pace: that one keeps its rate.
 * Log, memory and requests to vendors stay bounded.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';

const SET = 'mock-evidence/set-a';
const PROGRAM = join(import.meta.dirname, '../../dist/bin/dstack-verifier.js');
const PER_SECOND = 20;
const SECONDS = 1;
const MIB = 2 ** 20;

let directory: string;
let port: number;
let service: ChildProcess;
let logged = '';
/** A service of Intel's collateral that takes every request and answers none. */
let pccs: Server;
let asked = 0;

async function start(): Promise<void> {
  directory = mkdtempSync(join(tmpdir(), 'verifier-hostile-'));
  pccs = createServer(() => {
    asked += 1;
  });
  await new Promise<void>((resolve) => pccs.listen(0, '127.0.0.1', resolve));
  port = await freePort();
  const root = (name: string): string => JSON.stringify(fixturePath(`${SET}/roots/${name}-root-ca.pem`));
  const config = `address = "127.0.0.1"
port = ${port}
image_cache_dir = ${JSON.stringify(join(directory, 'cache'))}
[attestation]
insecure_allow_external_trust_anchors = true
[attestation.urls]
pccs = "http://127.0.0.1:${(pccs.address() as AddressInfo).port}"
[attestation.root_ca]
tdx = ${root('tdx')}
aws_nitro_enclave = ${root('nsm')}
`;
  writeFileSync(join(directory, 'v.toml'), config);
  service = spawn(process.execPath, [PROGRAM, '-c', 'v.toml'], {
    cwd: directory,
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  service.stderr?.on('data', (chunk: Buffer) => {
    logged += chunk.toString();
  });
  while (!logged.includes('Listening')) {
    if (service.exitCode !== null) throw new Error(`The service does not start: ${logged}`);
    await sleep(50);
  }
}

async function stop(): Promise<void> {
  const ended = new Promise((resolve) => service.once('exit', resolve));
  service.kill('SIGTERM');
  await ended;
  pccs.closeAllConnections();
  pccs.close();
  rmSync(directory, { recursive: true, force: true });
}

const open = new Set<Socket>();
afterEach(() => {
  for (const socket of open) socket.destroy();
  open.clear();
});

async function freePort(): Promise<number> {
  const probe = createTcpServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const found = (probe.address() as AddressInfo).port;
  await new Promise((resolve) => probe.close(resolve));
  return found;
}

/** Each flood has an address of its own: what an earlier one has used up does not protect from it. */
let attacker = 10;

/** A connection of the attacker, opened again whenever it ends, which sends what `say` gives it. */
function attack(count: number, say: (socket: Socket) => void, isReading = true): () => void {
  let isOver = false;
  const from = attacker;
  const begin = (): void => {
    if (isOver) return;
    const socket = connect({ host: '127.0.0.1', port, localAddress: `127.0.0.${from}` });
    open.add(socket);
    socket.on('error', () => undefined);
    if (isReading) socket.resume();
    socket.once('connect', () => say(socket));
    socket.once('close', () => {
      open.delete(socket);
      setTimeout(begin, 50);
    });
  };
  for (let i = 0; i < count; i++) begin();
  return () => {
    isOver = true;
  };
}

const post = (body: string | Uint8Array, length = body.length): Buffer =>
  Buffer.concat([
    Buffer.from(`POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`),
    Buffer.from(body),
  ]);
/** Sends the same request again and again, one after the other. */
const again = (message: Buffer) => (socket: Socket) => {
  socket.write(message);
  socket.on('data', () => socket.write(message));
};
const everySoOften = (ms: number, text: string) => (socket: Socket) => {
  const timer = setInterval(() => socket.write(text), ms);
  socket.once('close', () => clearInterval(timer));
};

function ninthOfTen(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length * 0.9)] ?? Number.POSITIVE_INFINITY;
}

interface Served {
  /** Part of the requests that were answered. */
  readonly rate: number;
  /** What the service did, for anybody, until 9 of 10 answers were there, in milliseconds. */
  readonly ms: number;
}

/**
 * Time for which the service's thread has run, in milliseconds: other work of the machine, which makes everything slower,
 * says nothing of who is served first (proc_pid_schedstat(5)).
 */
function serviceTime(): number {
  const [nanoseconds] = readFileSync(`/proc/${service.pid}/task/${service.pid}/schedstat`, 'utf8').split(' ');
  return Number(nanoseconds) / 1e6;
}

/** What a client of another address gets that asks at its own pace. */
async function client(body: string, seconds: number): Promise<Served> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const times: number[] = [];
  const ask = (): Promise<void> =>
    new Promise((resolve) => {
      const started = serviceTime();
      const options = { host: '127.0.0.1', port, path: '/verify', method: 'POST', agent, timeout: 5_000 };
      const sent = request(options, (answer) => {
        answer.resume();
        answer.once('end', () => {
          if (answer.statusCode === 200) times.push(serviceTime() - started);
          resolve();
        });
      });
      sent.once('timeout', () => sent.destroy());
      sent.once('error', () => resolve());
      sent.end(body);
    });
  const all: Promise<void>[] = [];
  const wanted = Math.round(seconds * PER_SECOND);
  for (let i = 0; i < wanted; i++) {
    all.push(ask());
    await sleep(1000 / PER_SECOND);
  }
  await Promise.all(all);
  agent.destroy();
  return { rate: times.length / wanted, ms: ninthOfTen(times) };
}

describeWithFixtures(
  'one address floods, another one keeps its rate',
  `${SET}/evidence/nitro-good.v0.bin`,
  () => {
    const evidence = (name: string): string =>
      JSON.stringify({ attestation: toHex(fixture(`${SET}/evidence/${name}.v0.bin`)) });
    const honest = evidence('nitro-good');
    let calm: Served;
    beforeAll(async () => {
      await start();
      await client(honest, 0.5);
      calm = await client(honest, SECONDS);
    }, 60_000);
    afterAll(stop);

    const FLOODS: readonly (readonly [string, () => () => void])[] = [
      ['that say nothing', () => attack(400, () => undefined)],
      [
        'that never end their headers',
        () =>
          attack(200, (socket) => {
            socket.write('POST /verify HTTP/1.1\r\n');
            everySoOften(100, 'A: b\r\n')(socket);
          }),
      ],
      [
        'that send a body byte by byte',
        () =>
          attack(200, (socket) => {
            socket.write(post('', MIB));
            everySoOften(100, ' ')(socket);
          }),
      ],
      [
        'that stand still before the end of a body',
        () =>
          attack(200, (socket) => {
            socket.write(post('x'.repeat(60_000), MIB));
          }),
      ],
      [
        'that read no answer',
        () =>
          attack(
            50,
            (socket) => {
              socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(8));
            },
            false,
          ),
      ],
      ['that send what is no JSON', () => attack(32, again(post('x'.repeat(65_536))))],
      ['that send more than a body may have', () => attack(16, again(post('x'.repeat(2 * MIB))))],
      [
        'that send the largest body there is',
        () => attack(16, again(post(`{"attestation":"${'00'.repeat(500_000)}"}`))),
      ],
      [
        'that send thousands of requests at once',
        () =>
          attack(16, (socket) => {
            socket.write('GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2_000));
          }),
      ],
      [
        'whose evidence needs collateral that does not come',
        () => attack(64, again(post(evidence('tdx-good')))),
      ],
      ['with evidence that is verified', () => attack(64, again(post(honest)))],
    ];

    const keepsItsRate = async (seconds: number): Promise<void> => {
      const served = await client(honest, seconds);
      expect(served.rate).toBeGreaterThanOrEqual(0.8 * calm.rate);
      expect(served.ms).toBeLessThan(250);
    };

    it.each(FLOODS)('of requests %s', async (_name, flood) => {
      attacker += 1;
      const end = flood();
      await keepsItsRate(SECONDS);
      end();
    });

    it('of all of them at once', async () => {
      attacker += 1;
      const ends = FLOODS.map(([, flood]) => flood());
      await keepsItsRate(2 * SECONDS);
      for (const end of ends) end();
    });

    it('costs no more than bounded memory, log lines and requests to a vendor', async () => {
      const status = readFileSync(`/proc/${service.pid}/status`, 'utf8');
      expect(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024).toBeLessThan(700);
      expect(serviceTime()).toBeGreaterThan(500);
      const lines = logged.split('\n').filter((line) => line !== '');
      expect(Buffer.byteLength(logged)).toBeLessThan(256 * 1024);
      expect(lines.map((line) => JSON.parse(line) as object).length).toBeGreaterThan(0);
      // What the bursts of a dozen networks allow; each causes four requests at least.
      expect(asked).toBeLessThan(200);
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      expect(text).toContain('dstack_verifier_connections_refused_total{reason="share"}');
    });
  },
);

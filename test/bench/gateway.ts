/**
 * The gateway on one core beside HAProxy and nginx (`ssl_preread`) as Debian has them, and a bare Node TLS server. The load and
 * the backend share the other core, and are often the limit: what a new connection or a request costs is the server's own CPU
 * time, and a rate is what one core would do in a second of it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { fromHex } from '@dstack-cloud/encoding';
import { createPrpcClient, Gateway, httpTransport } from '@dstack-cloud/prpc';
import { startEtcd } from '@dstack-cloud/test/etcd-lab';
import { findProgram } from '@dstack-cloud/test/requires';
import { newKeyPair } from '@dstack-cloud/wireguard';
import { keyService } from '../harness/gateway-lab.ts';
import { type LabNode, makeNetwork, makeNode } from '../harness/gateway-nodes.ts';
import { pinProcess, runLoad, startServer } from './load/processes.ts';
import type { TcpPlan, TcpReport } from './load/tcp-load.ts';
import { median, percentile, type Result } from './result.ts';

const SERVE_PROXY = fileURLToPath(new URL('../../packages/gateway/src/test/serve-proxy.ts', import.meta.url));
/** As `packages/gateway/src/test/lab.ts` has them. */
const [APP, BASE] = ['a'.repeat(40), 'apps.test'];
const BACKEND = '127.1.0.1';
const ROUNDS = 3;
const MANY_INSTANCES = 100_000;
const IDLE = 50_000;
const GUESTS = 200;

type Server = { readonly port: number; readonly pid: number; stop(): void };

export async function run(): Promise<Result[]> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-gateway-'));
  const stops: (() => void)[] = [];
  const keep = <T extends { stop(): void }>(one: T): T => {
    stops.push(one.stop);
    return one;
  };
  try {
    const backend = keep(await startServer('tcp-backend.ts', { host: BACKEND }, 'load'));
    const { cert, key } = keyService().server(`*.${BASE}`, 'cc'.repeat(20));
    const settings = { addresses: [BACKEND], cert, key };
    const gateway = keep(await startServer(SERVE_PROXY, { ...settings, filler: 0 }));
    const crowded = keep(await startServer(SERVE_PROXY, { ...settings, filler: MANY_INSTANCES }));
    const bare = keep(await startServer('bare-tls.ts', { cert, key }));
    const peers: Record<string, Server> = {};
    if (findProgram('nginx')) peers['nginx'] = keep(await startNginx(folder, backend.port));
    if (findProgram('haproxy')) peers['haproxy'] = keep(await startHaproxy(folder, backend.port));

    const results: Result[] = [];
    const passed = `${APP}-${backend.port}s.${BASE}`;
    const streamed = `${APP}-${backend.port + 1}s.${BASE}`;
    const ended = `${APP}-${backend.port}.${BASE}`;
    const fresh = {
      servername: passed,
      kind: 'fresh',
      tls: false,
      concurrency: 32,
      durationMs: 3_000,
    } as const;
    const kept = { ...fresh, kind: 'kept', concurrency: 16 } as const;
    const beside = async (
      name: string,
      plan: Omit<TcpPlan, 'port'>,
      goals: Record<string, number>,
    ): Promise<void> => {
      const own = await rate(gateway, plan);
      for (const [peer, server] of Object.entries(peers)) {
        const { value } = await rate(server, plan);
        const goal = goals[peer];
        results.push({
          ...{ suite: 'gateway', name: `${name}-${peer}`, ...own, unit: '1/s' },
          ...{ peer: { name: peer, value }, ...(goal !== undefined && { goal: { ratio: goal } }) },
        });
      }
    };
    await beside('passthrough-new-conn-per-s', fresh, { nginx: 0.5 });
    await beside('kept-req-per-s', kept, {});
    for (const [peer, server] of Object.entries(peers)) {
      const plan = { ...fresh, servername: streamed, kind: 'relay', concurrency: 4 } as const;
      const [own, other] = [await megabytes(gateway, plan), await megabytes(server, plan)];
      results.push({
        ...{ suite: 'gateway', name: `relay-mb-per-s-${peer}`, ...own, unit: 'MB/s' },
        peer: { name: peer, value: other.value },
      });
    }
    const tls = { ...fresh, servername: ended, tls: true } as const;
    const limit = await rate(bare, tls);
    results.push({ suite: 'gateway', name: 'limit-tls-new-per-s', ...limit, unit: '1/s' });
    results.push({
      ...{ suite: 'gateway', name: 'tls-new-per-s', ...(await rate(gateway, tls)), unit: '1/s' },
      ...{ peer: { name: 'bare Node', value: limit.value }, goal: { ratio: 0.8 } },
    });
    const alone = await rate(gateway, fresh);
    results.push({
      ...{
        suite: 'gateway',
        name: 'passthrough-100k-instances-per-s',
        ...(await rate(crowded, fresh)),
        unit: '1/s',
      },
      ...{ peer: { name: 'one instance', value: alone.value }, goal: { ratio: 0.9 } },
    });
    results.push(await addedLatency(gateway, backend.port, kept));
    results.push(await idle(gateway, { ...fresh, kind: 'idle' }));
    for (const stop of stops.splice(0)) stop();
    if (['wg', 'wireguard-go', 'ip', 'etcd'].every(findProgram))
      results.push(...(await registrations(folder)));
    return results;
  } finally {
    for (const stop of stops) stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

type Figure = { readonly value: number; readonly n: number };

async function rounds(measure: () => Promise<Figure>): Promise<Figure> {
  const figures: Figure[] = [];
  for (let round = 0; round < ROUNDS; round++) figures.push(await measure());
  return {
    value: median(figures.map(({ value }) => value)),
    n: figures.reduce((sum, { n }) => sum + n, 0),
  };
}

/** What the server does in a second of its CPU time. */
function rate(server: Server, plan: Omit<TcpPlan, 'port'>): Promise<Figure> {
  return rounds(async () => {
    const before = cpuSeconds(server.pid);
    const report = await loadTcp({ ...plan, port: server.port });
    return { value: report.completed / (cpuSeconds(server.pid) - before), n: report.completed };
  });
}

function megabytes(server: Server, plan: Omit<TcpPlan, 'port'>): Promise<Figure> {
  return rounds(async () => {
    const before = cpuSeconds(server.pid);
    const { bytes } = await loadTcp({ ...plan, port: server.port });
    return { value: bytes / 1e6 / (cpuSeconds(server.pid) - before), n: Math.round(bytes / 1e6) };
  });
}

/** At half of what the load reaches: p99 through the gateway less p99 of the backend alone. */
async function addedLatency(
  gateway: Server,
  backendPort: number,
  plan: Omit<TcpPlan, 'port'>,
): Promise<Result> {
  const full = await loadTcp({ ...plan, port: gateway.port });
  const half = { ...plan, rate: full.completed / full.seconds / 2 };
  const p99 = async (port: number): Promise<number> => (await loadTcp({ ...half, port })).p99Ms;
  const added: number[] = [];
  for (let round = 0; round < ROUNDS; round++)
    added.push((await p99(gateway.port)) - (await direct(backendPort, half)));
  const n = Math.round(ROUNDS * half.rate * 3);
  return {
    suite: 'gateway',
    name: 'added-latency-p99-ms',
    value: median(added),
    unit: 'ms',
    n,
    goal: { atMost: 1 },
  };
}

async function direct(port: number, plan: Omit<TcpPlan, 'port'>): Promise<number> {
  return (await loadTcp({ ...plan, port, host: BACKEND })).p99Ms;
}

/** Memory of the gateway's process for each connection that is open and says nothing. */
async function idle(gateway: Server, plan: Omit<TcpPlan, 'port'>): Promise<Result> {
  const count = Math.min(IDLE, Math.floor((fileLimit(gateway.pid) - 1_000) / 2));
  const before = rssKb(gateway.pid);
  const child = runLoad('tcp-load.ts');
  child.stdin?.write(JSON.stringify({ ...plan, port: gateway.port, concurrency: count }));
  const [said] = (await once(child.stdout!, 'data')) as [Buffer];
  const { completed, failed, failure } = JSON.parse(said.toString('utf8')) as TcpReport;
  if (failed > 0) console.error(`${failed} of ${count} idle connections failed: ${failure}`);
  const value = (rssKb(gateway.pid) - before) / completed;
  child.stdin?.end('x');
  await once(child, 'exit');
  return {
    suite: 'gateway',
    name: 'rss-per-idle-connection-kb',
    value,
    unit: 'KB',
    n: completed,
    goal: { atMost: 40 },
  };
}

async function loadTcp(plan: TcpPlan): Promise<TcpReport> {
  const child = runLoad('tcp-load.ts');
  child.stdin?.write(JSON.stringify(plan));
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
  });
  await once(child, 'exit');
  const report = JSON.parse(text) as TcpReport;
  if (report.failed > report.completed / 100)
    throw new Error(`${report.failed} of ${report.completed + report.failed} failed: ${report.failure}`);
  return report;
}

/** Registrations that are written, and until when all nodes know them. */
async function registrations(folder: string): Promise<Result[]> {
  const kms = keyService();
  const network = makeNetwork(GUESTS);
  const etcd = await startEtcd(join(folder, 'etcd'), 18_000, `${network.net}.1`);
  const nodes: LabNode[] = [];
  try {
    const single = makeNode({ number: 9, folder, network, kms });
    nodes.push(single);
    await single.start();
    const clients = Array.from({ length: GUESTS }, (_, n) => kms.client({ instanceId: fromHex(idOf(n)) }));
    const alone = await register([single], clients, network.sources);
    await single.stop();
    const three = [0, 1, 2].map((number) => makeNode({ number, folder, network, kms, etcd }));
    nodes.push(...three);
    await Promise.all(three.map((node) => node.start()));
    const shared = await register(three, clients, network.sources);
    const seen: number[] = [];
    for (let n = 0; n < 60; n++) seen.push(await seenAfter(three, kms, 1_000 + n));
    return [
      { suite: 'gateway', name: 'registrations-per-s', ...alone, unit: '1/s', goal: { atLeast: 2_000 } },
      {
        suite: 'gateway',
        name: 'registrations-three-nodes-per-s',
        ...shared,
        unit: '1/s',
        goal: { atLeast: 1_000 },
      },
      {
        ...{ suite: 'gateway', name: 'change-seen-by-all-p99-ms', value: percentile(seen, 0.99), unit: 'ms' },
        ...{ n: seen.length, goal: { atMost: 100 } },
      },
    ];
  } finally {
    for (const node of nodes) await node.remove();
    await etcd.close();
    network.close();
  }
}

async function register(
  nodes: readonly LabNode[],
  clients: readonly { cert: string; key: string }[],
  sources: readonly string[],
): Promise<Figure> {
  const child = runLoad('registrations.ts');
  const targets = nodes.map(({ address, rpcPort }) => ({ host: address, port: rpcPort }));
  child.stdin?.end(JSON.stringify({ targets, sources, clients, durationMs: 3_000 }));
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
  });
  await once(child, 'exit');
  const report = JSON.parse(text) as {
    perSecond: number;
    completed: number;
    failed: number;
    failure?: string;
  };
  if (report.failed > 0) console.error(`${report.failed} registrations failed: ${report.failure}`);
  return { value: report.perSecond, n: report.completed };
}

async function seenAfter(
  nodes: readonly LabNode[],
  kms: ReturnType<typeof keyService>,
  n: number,
): Promise<number> {
  const [first, ...others] = nodes;
  const tls = kms.client({ instanceId: fromHex(idOf(n)) });
  const transport = httpTransport({ baseUrl: `https://${first!.address}:${first!.rpcPort}/prpc`, tls });
  await createPrpcClient(Gateway, transport).registerCvm({ clientPublicKey: newKeyPair().publicKey });
  const from = performance.now();
  transport.close?.();
  const operators = others.map((node) => node.operator());
  for (const operator of operators) while (!(await operator.getInfo({ id: idOf(n) })).found) await sleep(1);
  return performance.now() - from;
}

const idOf = (n: number): string => `${n}`.padStart(40, '0');

async function startNginx(folder: string, backendPort: number): Promise<Server> {
  const port = 17_443;
  const module = '/usr/lib/nginx/modules/ngx_stream_module.so';
  const file = join(folder, 'nginx.conf');
  writeFileSync(
    file,
    `load_module ${module};
daemon off; master_process off; worker_processes 1; pid ${join(folder, 'nginx.pid')}; error_log stderr crit;
events { worker_connections 65536; }
stream {
  map_hash_bucket_size 256;
  map $ssl_preread_server_name $to {
    ${APP}-${backendPort}s.${BASE} ${BACKEND}:${backendPort};
    ${APP}-${backendPort + 1}s.${BASE} ${BACKEND}:${backendPort + 1};
  }
  server { listen 127.0.0.1:${port} backlog=4096; ssl_preread on; proxy_pass $to; tcp_nodelay on; proxy_timeout 10m; }
}
`,
  );
  return await startPeer('nginx', ['-c', file, '-p', folder], port);
}

async function startHaproxy(folder: string, backendPort: number): Promise<Server> {
  const port = 17_444;
  const file = join(folder, 'haproxy.cfg');
  const backend = (name: string, to: number): string =>
    `backend ${name}\n  mode tcp\n  server one ${BACKEND}:${to}\n`;
  writeFileSync(
    file,
    `global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 10m
  timeout server 10m
  maxconn 9000
frontend users
  bind 127.0.0.1:${port} backlog 4096
  tcp-request inspect-delay 5s
  tcp-request content accept if { req.ssl_hello_type 1 }
  use_backend answer if { req.ssl_sni -i ${APP}-${backendPort}s.${BASE} }
  use_backend stream if { req.ssl_sni -i ${APP}-${backendPort + 1}s.${BASE} }
${backend('answer', backendPort)}${backend('stream', backendPort + 1)}`,
  );
  return await startPeer('haproxy', ['-db', '-q', '-f', file], port);
}

async function startPeer(program: string, words: readonly string[], port: number): Promise<Server> {
  const child: ChildProcess = spawn(findProgram(program)!, words, { stdio: ['ignore', 'ignore', 'inherit'] });
  const pid = child.pid!;
  pinProcess(pid);
  await sleep(1_000);
  if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`);
  return { port, pid, stop: () => void child.kill('SIGKILL') };
}

/** utime and stime of proc(5), in seconds: USER_HZ is 100. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function rssKb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

function fileLimit(pid: number): number {
  return Number(/Max open files\s+(\d+)/.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1]);
}

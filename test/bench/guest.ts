/**
 * The guest agent on its Unix socket, as an application uses it: kept connections, JSON. `get-key` asks for another path
 * each time, so that every key is derived and signed. Each figure stands beside a bare Node server on such a socket,
 * with answers of the same size.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isThere } from '@dstack-cloud/files';
import { fixturePath } from '@dstack-cloud/test/fixtures';
import { processesIn } from '../harness/run-command.ts';
import { type Stack, startStack } from '../harness/stack.ts';
import { startAgent } from '../interop/start-agent.ts';
import type { LoadPlan } from './load/plan.ts';
import { load, pinProcess, startServer } from './load/processes.ts';
import { median, type Result } from './result.ts';

const ROUNDS = 3;
const STARTS = 5;
const LOAD: Omit<LoadPlan, 'url' | 'body'> = {
  identities: [],
  connections: 'kept',
  concurrency: 16,
  warmUpMs: 1_500,
  durationMs: 3_000,
};

const NEW_PATH = '{"path":"wallet/ethereum/{n}","purpose":"mainnet"}';
const SAME_PATH = '{"path":"wallet/ethereum","purpose":"mainnet"}';
/** What the latency of keys is measured at: requests a second. */
const STEADY_RATE = 1_000;

/** `limit`: the bare server's own figure gets this name. */
const CALLS = [
  { name: 'get-key', method: 'GetKey', body: NEW_PATH, goal: { ratio: 0.1 }, limit: 'limit' },
  { name: 'get-key-same-path', method: 'GetKey', body: SAME_PATH, goal: { ratio: 0.5 }, limit: undefined },
  {
    name: 'sign',
    method: 'Sign',
    body: '{"algorithm":"secp256k1","data":"00112233"}',
    goal: undefined,
    limit: undefined,
  },
  { name: 'info', method: 'Info', body: '{}', goal: { ratio: 0.6 }, limit: 'limit-info' },
  { name: 'get-quote', method: 'GetQuote', body: '{"report_data":"00"}', goal: undefined, limit: undefined },
] as const;

export async function run(): Promise<Result[]> {
  const stack = await startStack();
  const directory = mkdtempSync(join(tmpdir(), 'dstack-bench-'));
  try {
    const agent = processesIn(stack.space.directory).find((line) => line.includes('dstack-guest-agent'));
    pinProcess(Number(agent?.split(' ')[0]));
    const socketPath = agentSocket(stack);
    const results: Result[] = [];
    for (const { name, method, body, goal, limit: limitName } of CALLS) {
      const url = `http://agent/${method}`;
      const bareSocket = join(directory, `${name}.sock`);
      const answerBytes = await answerSize(socketPath, method, body);
      const bare = await startServer('bare-socket.ts', { socketPath: bareSocket, answerBytes });
      try {
        const [limit, rate] = await inTurn(
          { ...LOAD, url, body, socketPath: bareSocket },
          { ...LOAD, url, body, socketPath },
        );
        const peer = { name: 'bare-socket-per-s', value: limit.value };
        results.push({
          suite: 'guest',
          name: `${name}-per-s`,
          unit: '1/s',
          ...rate,
          peer,
          ...(goal && { goal }),
        });
        if (limitName !== undefined)
          results.push({ suite: 'guest', name: `${limitName}-per-s`, unit: '1/s', ...limit });
      } finally {
        bare.stop();
      }
    }
    const steady = { ...LOAD, url: 'http://agent/GetKey', body: NEW_PATH, socketPath, rate: STEADY_RATE };
    const { p99Ms, completed } = await load(steady);
    results.push({
      suite: 'guest',
      name: 'get-key-p99-ms',
      unit: 'ms',
      value: p99Ms,
      n: completed,
      goal: { atMost: 1 },
    });
    results.push(memoryOf(Number(agent?.split(' ')[0])), ...(await readiness()));
    return results;
  } finally {
    rmSync(directory, { recursive: true, force: true });
    await stack.stop();
  }
}

/** What the agent has in memory after the load. */
function memoryOf(pid: number): Result {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
  return {
    suite: 'guest',
    name: 'rss-mb',
    unit: 'MB',
    value: (kib * 1024) / 1e6,
    n: 1,
    goal: { atMost: 100 },
  };
}

/** From the start of the process to its ready line, with a recorded identity: without a boot. */
async function readiness(): Promise<Result[]> {
  if (!isThere(fixturePath('simulator/attestation.bin'))) return [];
  const times: number[] = [];
  for (let round = 0; round < STARTS; round++) {
    const agent = await startAgent();
    times.push(agent.readyMs);
    await agent.stop();
  }
  return [
    { suite: 'guest', name: 'ready-ms', unit: 'ms', value: median(times), n: STARTS, goal: { atMost: 150 } },
  ];
}

function agentSocket({ space }: Stack): string {
  const config = JSON.parse(readFileSync(join(space.machines, 'kms', 'guest.json'), 'utf8')) as {
    listen: { dstack_sock: string };
  };
  return config.listen.dstack_sock;
}

function answerSize(socketPath: string, method: string, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const outgoing = request({ socketPath, path: `/${method}`, method: 'POST', headers }, (response) => {
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
      });
      response.once('end', () => {
        if (response.statusCode === 200) resolve(size);
        else reject(new Error(`${method} answered ${response.statusCode}`));
      });
    });
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

type Rate = { value: number; n: number };

/** Medians of two loads whose rounds take turns. */
async function inTurn(...plans: [LoadPlan, LoadPlan]): Promise<[Rate, Rate]> {
  const rates: [number[], number[]] = [[], []];
  const totals = [0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, plan] of plans.entries()) {
      const report = await load(plan);
      if (report.failed > 0) throw new Error(`${report.failed} requests failed: ${report.failure}`);
      rates[index]?.push(report.perSecond);
      totals[index] = (totals[index] ?? 0) + report.completed;
    }
  }
  return [
    { value: median(rates[0]), n: totals[0] ?? 0 },
    { value: median(rates[1]), n: totals[1] ?? 0 },
  ];
}

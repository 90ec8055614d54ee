/**
 * The guest agent on its Unix socket, as an application uses it: kept connections, JSON. Every key has another path,
 * so that every one is derived and signed. Each figure stands beside a bare Node server on such a socket, with
 * answers of the same size.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { processesIn } from '../harness/run-command.ts';
import { type Stack, startStack } from '../harness/stack.ts';
import type { LoadPlan } from './load/plan.ts';
import { load, pinProcess, startServer } from './load/processes.ts';
import { median, type Result } from './result.ts';

const ROUNDS = 3;
const LOAD: Omit<LoadPlan, 'url' | 'body'> = {
  identities: [],
  connections: 'kept',
  concurrency: 8,
  warmUpMs: 1_500,
  durationMs: 3_000,
};

const CALLS = [
  { name: 'get-key', method: 'GetKey', body: '{"path":"wallet/ethereum/{n}","purpose":"mainnet"}' },
  { name: 'sign', method: 'Sign', body: '{"algorithm":"secp256k1","data":"00112233"}' },
  { name: 'info', method: 'Info', body: '{}' },
] as const;

export async function run(): Promise<Result[]> {
  const stack = await startStack();
  const directory = mkdtempSync(join(tmpdir(), 'dstack-bench-'));
  try {
    const agent = processesIn(stack.space.directory).find((line) => line.includes('dstack-guest-agent'));
    pinProcess(Number(agent?.split(' ')[0]));
    const socketPath = agentSocket(stack);
    const results: Result[] = [];
    for (const { name, method, body } of CALLS) {
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
        results.push({ suite: 'guest', name: `${name}-per-s`, unit: '1/s', ...rate, peer });
      } finally {
        bare.stop();
      }
    }
    return results;
  } finally {
    rmSync(directory, { recursive: true, force: true });
    await stack.stop();
  }
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

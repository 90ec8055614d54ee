/**
 * The load process: reads one plan from standard input, drives it, writes one report to standard output.
 * A process of its own, so that the client's work is not measured as the server's.
 */
import { Agent, request } from 'node:https';
import { percentile } from '../result.ts';
import type { LoadPlan, LoadReport } from './plan.ts';

const chunks: Buffer[] = [];
for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
const plan = JSON.parse(Buffer.concat(chunks).toString('utf8')) as LoadPlan;
console.log(JSON.stringify(await drive(plan)));
process.exit(0);

async function drive(load: LoadPlan): Promise<LoadReport> {
  const start = performance.now();
  const from = start + load.warmUpMs;
  const until = from + load.durationMs;
  const latencies: number[] = [];
  let failed = 0;
  let failure: string | undefined;
  let answerBytes = 0;
  let issued = 0;

  const one = async (agent: Agent, planned: number): Promise<void> => {
    try {
      const bytes = await post(load, agent);
      const now = performance.now();
      if (now >= from && now <= until) latencies.push(now - planned);
      answerBytes = bytes;
    } catch (error) {
      failed++;
      failure ??= String(error);
    }
  };

  const worker = async (index: number): Promise<void> => {
    let agent = newAgent(load, index);
    while (performance.now() < until) {
      let planned = performance.now();
      if (load.rate !== undefined) {
        planned = start + (issued++ * 1000) / load.rate;
        const wait = planned - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      }
      await one(agent, planned);
      if (load.connections === 'fresh') {
        agent.destroy();
        agent = newAgent(load, ++next);
      }
    }
    agent.destroy();
  };
  let next = load.concurrency;
  await Promise.all(Array.from({ length: load.concurrency }, (_, index) => worker(index)));
  const seconds = load.durationMs / 1000;
  return {
    completed: latencies.length,
    failed,
    ...(failure === undefined ? {} : { failure }),
    perSecond: latencies.length / seconds,
    p50Ms: latencies.length === 0 ? Number.NaN : percentile(latencies, 0.5),
    p99Ms: latencies.length === 0 ? Number.NaN : percentile(latencies, 0.99),
    answerBytes,
  };
}

function newAgent(load: LoadPlan, index: number): Agent {
  const identity = load.identities[index % Math.max(1, load.identities.length)];
  return new Agent({
    keepAlive: true,
    maxSockets: 1,
    maxCachedSessions: 0,
    rejectUnauthorized: load.ca !== undefined,
    ...(load.ca === undefined ? {} : { ca: load.ca }),
    ...(identity ?? {}),
  });
}

function post(load: LoadPlan, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const call = request(load.url, { method: 'POST', agent, timeout: 30_000 }, (response) => {
      let bytes = 0;
      let text = '';
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (response.statusCode !== 200) text += chunk.toString('utf8').slice(0, 500);
      });
      response.on('end', () => {
        if (response.statusCode === 200) resolve(bytes);
        else reject(new Error(`${response.statusCode}: ${text}`));
      });
      response.on('error', reject);
    });
    call.on('timeout', () => call.destroy(new Error('timeout')));
    call.on('error', reject);
    call.end(load.body);
  });
}

/** A KMS with many registered applications, on a core of its own, whose network calls are counted. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { type Relay, startRelay } from '../../harness/loopback-server.ts';
import { processesIn, repository } from '../../harness/run-command.ts';
import { type Stack, startStack } from '../../harness/stack.ts';
import { type LoadedApp, loadApps } from './load-apps.ts';
import type { LoadIdentity, LoadPlan, LoadReport } from './plan.ts';
import { load, pinBesideLoad, pinProcess } from './processes.ts';

/** Applications that ask in turn; `DSTACK_BENCH_APPS` for a quick look. */
const APPS = Number(process.env['DSTACK_BENCH_APPS'] ?? 1000);
/** How many requests are under way at once. */
export const CONCURRENCY = 16;
const HEAP_TIMEOUT_MS = 10_000;

/** Limits as in production, but for a load that no honest fleet makes from one address; one process, for one core. */
const LIMITS = `
[default]
workers = 1

[core.rate_limit]
attested_per_minute = 1000000000
attested_burst = 1000000000
app_per_minute = 1000000000
app_burst = 1000000000
open_per_minute = 1000000000
open_burst = 1000000000
network_cost_per_minute = 1000000000
network_cost_burst = 1000000000
`;

export type Load = Pick<LoadPlan, 'url' | 'identities' | 'body' | 'connections'>;

/** Megabytes, and what held up the event loop since the last time, in milliseconds. */
export type Memory = {
  readonly resident: number;
  readonly heap: number;
  readonly external: number;
  readonly stalls: {
    readonly loopP99: number;
    readonly loopMax: number;
    /** All pauses for garbage collection, and the longest. */
    readonly gcTotal: number;
    readonly gcMax: number;
  };
};

export type LoadedKms = {
  readonly stack: Stack;
  readonly apps: readonly LoadedApp[];
  readonly identities: LoadIdentity[];
  /** What stands between the KMS and its chain, and between it and the collateral service. */
  readonly chain: Relay;
  readonly pccs: Relay;
  /** Key requests that were answered so far, by loads of `drive`. */
  released(): number;
  /** Key requests over a new connection each, or over one kept connection for each application. */
  readonly fresh: Load;
  readonly kept: Load;
  readonly meta: Load;
  /** Drives a load from another process and counts what was released. @throws Error when a request fails */
  drive(plan: Omit<LoadPlan, 'concurrency'>): Promise<LoadReport>;
  /** Memory in use now. */
  resident(): number;
  /** Memory in use when all garbage is collected. */
  collected(): Promise<Memory>;
  stop(): Promise<void>;
};

/** @param isWatched whether `collected` will be asked, for which a module is loaded before the program */
export async function startLoadedKms({
  isWatched = false,
}: {
  isWatched?: boolean;
} = {}): Promise<LoadedKms> {
  const relays: Relay[] = [];
  const heapFile = join(tmpdir(), `dstack-bench-heap-${process.pid}.json`);
  const preload = pathToFileURL(join(repository, 'test/harness/preload/heap.mjs')).href;
  const stack = await startStack(LIMITS, {
    ...(isWatched && { kmsEnv: { NODE_OPTIONS: `--import ${preload}`, TEST_HEAP_FILE: heapFile } }),
    relay: async (chainUrl, pccsUrl) => {
      relays.push(await startRelay(chainUrl), await startRelay(pccsUrl));
      return { chainUrl: relays[0]!.url, pccsUrl: relays[1]!.url };
    },
  });
  const stop = async (): Promise<void> => {
    await stack.stop();
    await Promise.all(relays.map((relay) => relay.close()));
    rmSync(heapFile, { force: true });
  };
  try {
    const apps = await loadApps(stack, APPS);
    const pid = pidOfKms(stack);
    pinProcess(pid);
    // The node of the chain and the collateral service, which are elsewhere in production, and the machine's agent.
    pinBesideLoad([process.pid, ...pidsOf(stack).filter((other) => other !== pid)]);
    const identities = apps.map(({ identity }) => identity);
    const url = `${stack.kms.url}/prpc/GetAppKey?json`;
    const body = JSON.stringify({ api_version: 1, vm_config: '' });
    let released = 0;
    return {
      stack,
      apps,
      identities,
      chain: relays[0]!,
      pccs: relays[1]!,
      released: () => released,
      fresh: { url, identities, body, connections: 'fresh' },
      kept: { url, identities, body, connections: 'kept' },
      meta: {
        url: `${stack.kms.url}/prpc/GetMeta?json`,
        identities: [],
        body: '{}',
        connections: 'kept',
      },
      async drive(plan) {
        const report = await load({ ...plan, concurrency: CONCURRENCY });
        if (report.failed > 0) throw new Error(`${report.failed} requests failed: ${report.failure}`);
        if (plan.url === url) released += report.answered;
        return report;
      },
      resident: () => residentOf(pid),
      collected: () => collected(pid, heapFile),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function pidOfKms(stack: Stack): number {
  const [pid] = pidsOf(stack, 'dstack-kms');
  if (pid === undefined) throw new Error('No KMS is running');
  return pid;
}

function pidsOf(stack: Stack, program = ''): number[] {
  return processesIn(stack.space.directory)
    .filter((command) => command.includes(program))
    .map((command) => Number(command.split(' ')[0]));
}

function residentOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** Asks the module that was loaded before the program. */
async function collected(pid: number, file: string): Promise<Memory> {
  rmSync(file, { force: true });
  process.kill(pid, 'SIGUSR2');
  for (let waited = 0; !existsSync(file); waited += 50) {
    if (waited > HEAP_TIMEOUT_MS) throw new Error('The KMS did not report its heap');
    await sleep(50);
  }
  const { heapUsed, external, stalls } = JSON.parse(readFileSync(file, 'utf8')) as {
    heapUsed: number;
    external: number;
    stalls: Memory['stalls'];
  };
  return { resident: residentOf(pid), heap: heapUsed / 2 ** 20, external: external / 2 ** 20, stalls };
}

/**
 * Key release of this tree and of another commit, in one run: both services stand side by side on the same core, and are
 * loaded in turn, so that a machine that is busy for a while slows both. What is compared are pairs, never two runs.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { repository } from '../harness/run-command.ts';
import { checkOut } from './load/checkout.ts';
import { CONCURRENCY, type Load } from './load/loaded-kms.ts';
import { load } from './load/processes.ts';
import { type Goal, median, type Result } from './result.ts';

const ROUNDS = 8;
const WARM_UP_MS = 1_500;
const DURATION_MS = 3_000;
/** A stack starts in some seconds; a checkout is built before. */
const START_TIMEOUT_MS = 600_000;
const GOAL: Goal = { ratio: 0.9 };
const KINDS = ['fresh', 'kept'] as const;

type Served = { readonly fresh: Load; readonly kept: Load; stop(): Promise<void> };

/** @throws Error when the commit is none or does not start, or when a request fails */
export async function runAgainst(commit: string): Promise<Result[]> {
  const checkout = await checkOut(commit);
  const served: Served[] = [];
  try {
    served.push(await serve(repository), await serve(checkout.directory));
    const [ours, theirs] = served as [Served, Served];
    const results: Result[] = [];
    for (const kind of KINDS) {
      const { pairs, counts } = await alternate(ours[kind], theirs[kind]);
      const [own, other] = [0, 1].map((side) => median(pairs.map((pair) => pair[side]!)));
      const ratio = median(pairs.map(([one, two]) => one / two));
      const name = `get-app-key-${kind}`;
      // The ratio is that of the pairs, which need not be the ratio of the medians.
      const peer = { name: `${kind} at ${checkout.commit}`, value: own! / ratio };
      results.push(
        { suite: 'kms', name: `${name}-per-s`, value: own!, unit: '1/s', n: counts[0], peer, goal: GOAL },
        {
          suite: 'kms',
          name: `${name}-per-s-at-${checkout.commit}`,
          value: other!,
          unit: '1/s',
          n: counts[1],
        },
      );
    }
    return results;
  } finally {
    await Promise.all(served.map(({ stop }) => stop()));
    await checkout.remove();
  }
}

/** Rates of both sides in pairs; who is first changes from pair to pair. */
async function alternate(
  ours: Load,
  theirs: Load,
): Promise<{ pairs: [number, number][]; counts: [number, number] }> {
  const pairs: [number, number][] = [];
  const counts: [number, number] = [0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const pair: [number, number] = [0, 0];
    const order = round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const);
    for (const side of order) {
      const report = await load({
        ...[ours, theirs][side]!,
        concurrency: CONCURRENCY,
        warmUpMs: WARM_UP_MS,
        durationMs: DURATION_MS,
      });
      if (report.failed > 0) throw new Error(`${report.failed} requests failed: ${report.failure}`);
      pair[side] = report.perSecond;
      counts[side] += report.completed;
    }
    pairs.push(pair);
  }
  return { pairs, counts };
}

async function serve(checkout: string): Promise<Served> {
  const file = join(tmpdir(), `dstack-bench-${process.pid}-${Math.random().toString(36).slice(2)}.json`);
  const script = resolve(import.meta.dirname, 'load/serve-kms.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', '-C', '@dstack/source', script, checkout, file], {
    cwd: checkout,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  const stop = async (): Promise<void> => {
    child.stdin.end();
    await ended;
    await rm(file, { force: true });
  };
  try {
    await untilReady(child);
    const loads = JSON.parse(await readFile(file, 'utf8')) as Pick<Served, 'fresh' | 'kept'>;
    return { ...loads, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function untilReady(child: ChildProcess): Promise<void> {
  return new Promise((done, reject) => {
    let output = '';
    const timer = setTimeout(() => reject(new Error('The KMS did not start in time')), START_TIMEOUT_MS);
    child.once('exit', (code) => reject(new Error(`The KMS ended with ${code} before it served`)));
    child.stdout?.on('data', (data: Buffer) => {
      output = (output + data.toString('utf8')).slice(-1024);
      if (!/^ready$/m.test(output)) return;
      clearTimeout(timer);
      done();
    });
  });
}

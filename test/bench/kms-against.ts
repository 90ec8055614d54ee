/**
 * Key release of this tree and of another commit, in one run: both services stand side by side on the same core, and are
 * loaded in turn, so that a machine that is busy for a while slows both. What is compared are pairs, never two runs; and
 * the processor's time for each request, which others that use the machine hardly change.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
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
/** Of the other commit's rate, and of its time for a request the other way round. */
const GOAL = 0.9;
/** The kernel counts in hundredths of a second, on every machine that runs this. */
const MS_PER_TICK = 10;
const KINDS = ['fresh', 'kept'] as const;

type Served = { readonly pid: number; readonly fresh: Load; readonly kept: Load; stop(): Promise<void> };
/** One round of one side. */
type Round = { readonly perSecond: number; readonly completed: number; readonly cpuMs: number };

/** @throws Error when the commit is none or does not start, or when a request fails */
export async function runAgainst(commit: string): Promise<Result[]> {
  const checkout = await checkOut(commit);
  const served: Served[] = [];
  try {
    served.push(await serve(repository), await serve(checkout.directory));
    const [ours, theirs] = served as [Served, Served];
    const results: Result[] = [];
    for (const kind of KINDS)
      results.push(...compared(kind, checkout.commit, await alternate(kind, ours, theirs)));
    return results;
  } finally {
    await Promise.all(served.map(({ stop }) => stop()));
    await checkout.remove();
  }
}

function compared(kind: string, commit: string, pairs: readonly (readonly [Round, Round])[]): Result[] {
  const figures = (
    figure: 'perSecond' | 'cpuMs',
    name: string,
    unit: Result['unit'],
    goal: (ratio: number) => Goal,
  ): Result[] => {
    const [own, other] = [0, 1].map((side) => median(pairs.map((pair) => pair[side]![figure])));
    const ratio = median(pairs.map(([one, two]) => one[figure] / two[figure]));
    const [n, others] = [0, 1].map((side) => pairs.reduce((sum, pair) => sum + pair[side]!.completed, 0));
    // The ratio is that of the pairs, which need not be the ratio of the medians.
    const peer = { name: `${kind} at ${commit}`, value: own! / ratio };
    return [
      { suite: 'kms', name, value: own!, unit, n: n!, peer, goal: goal(own! / ratio) },
      { suite: 'kms', name: `${name}-at-${commit}`, value: other!, unit, n: others! },
    ];
  };
  const name = `get-app-key-${kind}`;
  return [
    ...figures('perSecond', `${name}-per-s`, '1/s', () => ({ ratio: GOAL })),
    ...figures('cpuMs', `${name}-cpu-ms`, 'ms', (peer) => ({ atMost: peer / GOAL })),
  ];
}

/** Rounds of both sides in pairs; who is first changes from pair to pair. */
async function alternate(
  kind: (typeof KINDS)[number],
  ...sides: [Served, Served]
): Promise<[Round, Round][]> {
  const pairs: [Round, Round][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const pair: Round[] = [];
    for (const side of round % 2 === 0 ? [0, 1] : [1, 0]) pair[side] = await roundOf(sides[side]!, kind);
    pairs.push(pair as [Round, Round]);
  }
  return pairs;
}

async function roundOf({ pid, ...loads }: Served, kind: (typeof KINDS)[number]): Promise<Round> {
  const before = cpuMsOf(pid);
  const report = await load({
    ...loads[kind],
    concurrency: CONCURRENCY,
    warmUpMs: WARM_UP_MS,
    durationMs: DURATION_MS,
  });
  if (report.failed > 0) throw new Error(`${report.failed} requests failed: ${report.failure}`);
  const { perSecond, completed, answered } = report;
  return { perSecond, completed, cpuMs: (cpuMsOf(pid) - before) / answered };
}

/** Time that a process has had of a processor, itself and for the system (proc_pid_stat(5)). */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
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
    const loads = JSON.parse(await readFile(file, 'utf8')) as Omit<Served, 'stop'>;
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

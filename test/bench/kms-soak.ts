/**
 * Memory of the KMS under 80 % of its capacity: does it grow? New connections from many applications, blocks on the
 * chain, the audit log on. `DSTACK_BENCH_SOAK_SECONDS`, ten minutes by default.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { assertEachDecided, count } from './load/kms-checks.ts';
import { type LoadedKms, type Memory, startLoadedKms } from './load/loaded-kms.ts';
import type { Result } from './result.ts';

const SECONDS = Number(process.env['DSTACK_BENCH_SOAK_SECONDS'] ?? 600);
const LOAD_SHARE = 0.8;
const SAMPLE_SECONDS = 60;
/** Before the first sample: everything that is compiled, cached and pooled once is there. */
const WARM_UP_SECONDS = 20;
const CAPACITY_MS = 4_000;
/** What a heap may seem to grow by chance, over the whole time. */
const GROWTH_MB = 5;

type Sample = Memory & { readonly seconds: number };

export async function run(): Promise<Result[]> {
  if (!(SECONDS >= 10 && SECONDS <= 86_400)) throw new Error('DSTACK_BENCH_SOAK_SECONDS is 10 to 86400');
  const kms = await startLoadedKms({ isWatched: true });
  try {
    const before = await count(kms);
    const capacity = await kms.drive({
      ...kms.fresh,
      warmUpMs: WARM_UP_SECONDS * 1000,
      durationMs: CAPACITY_MS,
    });
    const rate = LOAD_SHARE * capacity.perSecond;
    const samples = await soak(kms, rate);
    assertEachDecided(before, await count(kms), kms.released());
    const [first, last] = [samples[0]!, samples.at(-1)!];
    const n = kms.released();
    const figure = (name: string, value: number): Result => ({ suite: 'kms', name, value, unit: 'MB', n });
    const goal = { atMost: GROWTH_MB };
    return [
      { suite: 'kms', name: 'soak-load-per-s', value: rate, unit: '1/s', n },
      figure('soak-resident-start-mb', first.resident),
      figure('soak-resident-end-mb', last.resident),
      figure('soak-heap-start-mb', first.heap + first.external),
      figure('soak-heap-end-mb', last.heap + last.external),
      figure('soak-resident-slope-mb-per-10-min', 600 * slope(samples, ({ resident }) => resident)),
      { ...figure('soak-growth-mb', growth(samples)), goal },
    ];
  } finally {
    await kms.stop();
  }
}

/** Samples while the load runs: at the start, each minute, at the end. */
async function soak(kms: LoadedKms, rate: number): Promise<Sample[]> {
  const started = performance.now();
  let isOver = false;
  const load = kms.drive({ ...kms.fresh, rate, warmUpMs: 0, durationMs: SECONDS * 1000 }).finally(() => {
    isOver = true;
  });
  const samples: Sample[] = [];
  const sample = async (): Promise<void> => {
    const seconds = (performance.now() - started) / 1000;
    const taken = { seconds, ...(await kms.collected()) };
    samples.push(taken);
    const [resident, heap, external] = [taken.resident, taken.heap, taken.external].map((mb) =>
      mb.toFixed(1),
    );
    const { loopP99, loopMax, gcTotal, gcMax } = taken.stalls;
    console.error(
      `${seconds.toFixed(0)} s: resident ${resident} MB, heap ${heap} MB, external ${external} MB; ` +
        `event loop late by ${loopP99.toFixed(1)} ms (p99), ${loopMax.toFixed(1)} ms (most); ` +
        `garbage collection ${gcTotal.toFixed(0)} ms, longest pause ${gcMax.toFixed(1)} ms`,
    );
  };
  const step = Math.min(SAMPLE_SECONDS, SECONDS / 4);
  // A failed load ends the sampling; its error is thrown below.
  load.catch(() => undefined);
  for (let at = 0; at < SECONDS && !isOver; at += step) {
    const wait = at - (performance.now() - started) / 1000;
    if (wait > 0) await Promise.race([sleep(wait * 1000), load.catch(() => undefined)]);
    if (!isOver) await sample();
  }
  const report = await load;
  await sample();
  console.error(
    `${report.completed} requests, p50 ${report.p50Ms.toFixed(1)} ms, p99 ${report.p99Ms.toFixed(1)} ms; ` +
      `${kms.chain.seen.length} calls to the chain, ${kms.pccs.seen.length} for collateral`,
  );
  return samples;
}

/** What is in use after garbage collection grows by, from the first to the last sample, along the line of best fit. */
function growth(samples: readonly Sample[]): number {
  const used = slope(samples, ({ heap, external }) => heap + external);
  return used * (samples.at(-1)!.seconds - samples[0]!.seconds);
}

/** Of the line of least squares, in MB a second. */
function slope(samples: readonly Sample[], of: (sample: Sample) => number): number {
  const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const time = mean(samples.map(({ seconds }) => seconds));
  const level = mean(samples.map(of));
  const above = samples.reduce((sum, one) => sum + (one.seconds - time) * (of(one) - level), 0);
  const below = samples.reduce((sum, { seconds }) => sum + (seconds - time) ** 2, 0);
  return below === 0 ? 0 : above / below;
}

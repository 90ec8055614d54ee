import { surviveClosedOutput } from '@dstack-cloud/files';
import { Cleanup } from './cleanup.ts';
import { farewell } from './farewell.ts';
import { type DemoReport, jsonReport } from './report.ts';
import { Steps } from './steps.ts';
import { story } from './story.ts';

export interface DemoOptions {
  readonly vm: boolean;
  readonly once: boolean;
  readonly json: boolean;
  readonly keep: boolean;
}

/** Runs the story, prints it, stays until Ctrl-C unless told otherwise, and leaves nothing behind. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const started = performance.now();
  const stop = new AbortController();
  const cleanup = new Cleanup();
  let interrupts = 0;
  const interrupt = (): void => {
    interrupts += 1;
    stop.abort(new Error('Interrupted'));
    // Whoever insists leaves at once; the guard and the machines' supervisors still end everything.
    if (interrupts > 2) process.exit(130);
  };
  // Nobody would see where it runs, nor stop it.
  surviveClosedOutput(interrupt);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupt);
  const steps = new Steps({ quiet: options.json, signal: stop.signal });
  const report: DemoReport = { denied: [] };
  let failed = false;
  try {
    const { keep, vm } = options;
    await story({ steps, cleanup, report, keep, vm, signal: stop.signal });
  } catch (error) {
    failed = true;
    if (!stop.signal.aborted) steps.fail(error);
  }
  const total = Math.round(performance.now() - started);
  if (options.json)
    process.stdout.write(`${JSON.stringify(jsonReport(steps.done, report, total), null, 2)}\n`);
  else if (!failed) farewell(report, total, options.once);
  if (!failed && !options.once) await untilAborted(stop.signal);
  if (!options.json) process.stdout.write('\nStopping everything\n');
  await cleanup.run();
  if (failed) return stop.signal.aborted ? 130 : 1;
  return 0;
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  // A pending promise alone does not keep node alive.
  const alive = setInterval(() => undefined, 60_000);
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  clearInterval(alive);
}

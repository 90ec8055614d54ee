import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from '../../../context.ts';
import { CliError } from '../../../errors.ts';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;

/** Asks until there is an answer. @throws CliError `timed_out` */
export async function waitUntil<T>(
  { signal }: Context,
  what: string,
  longestMs: number,
  ask: () => Promise<T | undefined>,
): Promise<T> {
  const deadline = performance.now() + longestMs;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    signal.throwIfAborted();
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() >= deadline)
      throw new CliError('timed_out', `${what}: not within ${Math.round(longestMs / 60_000)} minutes`, {
        hint: 'Run the same command again: it goes on where it was',
      });
    await sleep(pause, undefined, { signal });
  }
}

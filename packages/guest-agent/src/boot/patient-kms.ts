import { setTimeout as sleep } from 'node:timers/promises';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
/** Afterwards the machine reboots and begins again. */
const PATIENCE_MS = 300_000;

/** How long is waited, and by which clock. */
export interface Patience {
  readonly ms: number;
  readonly now: () => number;
  readonly wait: (ms: number) => Promise<unknown>;
}

const PATIENCE: Patience = { ms: PATIENCE_MS, now: () => performance.now(), wait: (ms) => sleep(ms) };

/**
 * Asks again, later and later, while no key service answers or none can decide; a refusal stands. Each round asks all key
 * services; the wait has a random part, so that many machines do not ask at once.
 *
 * @throws what the last round threw
 */
export async function patiently<T>(
  ask: () => Promise<T>,
  log: Logger,
  patience: Patience = PATIENCE,
): Promise<T> {
  const end = patience.now() + patience.ms;
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    try {
      return await ask();
    } catch (error) {
      const isPassing =
        error instanceof GuestError && (error.code === 'kms-unreachable' || error.code === 'kms-unavailable');
      const pause = Math.round(wait * (0.5 + Math.random() / 2));
      if (!isPassing || patience.now() + pause > end) throw error;
      log.warn(
        { again_in_ms: pause, error: error.message },
        'No key service gave an answer; it is asked again',
      );
      await patience.wait(pause);
    }
  }
}

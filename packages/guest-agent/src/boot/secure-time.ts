import { execFile } from 'node:child_process';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';

/** Twenty tries, a correction of at most 0.1 s. */
const COMMAND = ['waitsync', '20', '0.1'];
const TIMEOUT_MS = 240_000;

/** Runs a program; resolves with its error, or undefined when it ended well. */
export type RunProgram = (program: string, args: readonly string[]) => Promise<Error | undefined>;

const run: RunProgram = (program, args) =>
  new Promise((resolve) => {
    execFile(program, [...args], { timeout: TIMEOUT_MS }, (error) => resolve(error ?? undefined));
  });

/**
 * Blocks the boot until the clock is synchronised. A machine that a directory stands for has the clock of its host.
 *
 * @throws GuestError `time-not-synchronised`
 */
export async function waitForTime(root: string, log: Logger, runProgram: RunProgram = run): Promise<void> {
  if (root !== '/') return log.info("Time is the host machine's: there is no chrony to wait for");
  const error = await runProgram('chronyc', COMMAND);
  if (error === undefined) return;
  throw new GuestError(
    'time-not-synchronised',
    'Time is not synchronised (secure_time): chronyc waitsync failed',
    {
      cause: error,
    },
  );
}

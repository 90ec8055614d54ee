import { execFile } from 'node:child_process';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';

/** Twenty looks ten seconds apart; a correction of at most 0.1 s (chronyc(1), waitsync). */
const COMMAND = ['waitsync', '20', '0.1', '0', '10'];
/** A little more than these looks take: chronyc may hang when its daemon does. */
const TIMEOUT_MS = 240_000;

/** Runs a program; resolves with its error, or undefined when it ended well. */
export type RunProgram = (
  program: string,
  args: readonly string[],
  timeoutMs: number,
) => Promise<Error | undefined>;

const run: RunProgram = (program, args, timeout) =>
  new Promise((resolve) => {
    execFile(program, [...args], { timeout, killSignal: 'SIGKILL' }, (error) => resolve(error ?? undefined));
  });

/**
 * Blocks the boot until the clock is synchronised, and ends it when that takes longer than four minutes: without a time
 * server that answers there is no secure time. A machine that a directory stands for has the clock of its host.
 *
 * @throws GuestError `time-not-synchronised`
 */
export async function waitForTime(root: string, log: Logger, runProgram: RunProgram = run): Promise<void> {
  if (root !== '/') return log.info("Time is the host machine's: there is no chrony to wait for");
  const error = await runProgram('chronyc', COMMAND, TIMEOUT_MS);
  if (error === undefined) return;
  throw new GuestError(
    'time-not-synchronised',
    `The clock could not be set (secure_time): ${reasonOf(error)}. Let the machine reach time servers (NTS: TCP port 4460 and UDP port 123), or set secure_time to false`,
    { cause: error, expected: 'a clock that is right to 0.1 s', found: 'no synchronisation' },
  );
}

function reasonOf(error: Error): string {
  const { code, killed } = error as { code?: unknown; killed?: boolean };
  if (code === 'ENOENT') return 'this machine has no chronyc';
  return killed === true ? 'chronyc does not answer' : 'no time server answered within 200 s';
}

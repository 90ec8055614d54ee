import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';

/** Seconds: several endpoints that take their time, and a transaction that waits for its block. */
const TIME_LIMIT_S = 900;
const MAX_S = 86_400;

/**
 * Ends a command that takes too long: nothing is asked or sent any more. What was sent before is on disk, and a repeated
 * command goes on from there.
 */
export async function withTimeLimit<T>(
  context: Context,
  seconds: number = TIME_LIMIT_S,
  body: (context: Context) => Promise<T>,
): Promise<T> {
  if (seconds < 1 || seconds > MAX_S) {
    throw new CliError('bad_argument', `--timeout is 1 to ${MAX_S} seconds`, { found: String(seconds) });
  }
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(tooLong(seconds)), seconds * 1_000);
  const signal = AbortSignal.any([context.signal, limit.signal]);
  let giveUp: () => void = () => {};
  const given = new Promise<never>((_, reject) => {
    giveUp = () => reject(signal.reason);
    signal.addEventListener('abort', giveUp);
  });
  try {
    signal.throwIfAborted();
    return await Promise.race([body({ ...context, signal }), given]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', giveUp);
  }
}

function tooLong(seconds: number): CliError {
  return new CliError('timed_out', `The command took longer than ${seconds} seconds and was given up`, {
    exitCode: EXIT.timedOut,
    hint: 'Repeat it: it waits for what was sent already and sends nothing twice. --timeout SECONDS allows more time, --rpc-timeout SECONDS less for each answer',
  });
}

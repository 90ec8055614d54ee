import { costValue } from '@dstack-cloud/contracts/tasks';
import type { Context } from '../context.ts';
import { wholeNumber } from '../whole-number.ts';
import { withTimeLimit } from './time-limit.ts';

/** What bounds a command that writes to the chain. */
export type SendingOptions = {
  /** Wei that one transaction may cost. */
  readonly maxCost: bigint;
  /** Runs what asks the chain, and ends it after `--timeout`. */
  readonly limited: <T>(body: (context: Context) => Promise<T>) => Promise<T>;
};

/** `--timeout` and `--max-cost`, refused before anything is done. */
export function sendingOptions(context: Context, flags: Readonly<Record<string, unknown>>): SendingOptions {
  const text = (name: string): string | undefined =>
    typeof flags[name] === 'string' ? flags[name] : undefined;
  const seconds = wholeNumber('--timeout', text('timeout'));
  return {
    maxCost: costValue(text('maxCost')),
    limited: async (body) => await withTimeLimit(context, seconds, body),
  };
}

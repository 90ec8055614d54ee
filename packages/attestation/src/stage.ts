import { type Check, CheckRecorder } from './check-recorder.ts';
import { AttestationError } from './errors.ts';
import type { VerifyContext } from './verify-context.ts';

/** A part of a verification whose success holds for other evidence too, between two dates. */
export interface Dated {
  /** Unix seconds, both inclusive. */
  readonly validFrom: number;
  readonly validUntil: number;
}

interface Outcome<T> {
  readonly value: T;
  readonly checks: readonly Check[];
}

class StageFailure extends Error {
  readonly error: AttestationError;
  readonly checks: readonly Check[];
  /** Unix seconds: the time that the failed run was for. */
  readonly now: number;

  constructor(error: AttestationError, checks: readonly Check[], now: number) {
    super(error.message, { cause: error });
    this.error = error;
    this.checks = checks;
    this.now = now;
  }
}

/**
 * Runs one stage, or takes its result from the cache when the same bytes passed before and `now` lies within
 * the dates of that result; outside of them the stage runs again, so that its own error tells what expired.
 * The stage's checks are recorded either way.
 * @param key every byte that the stage's result depends on
 */
export async function cachedStage<T extends Dated>(
  name: string,
  key: readonly Uint8Array[],
  context: VerifyContext,
  run: (checks: CheckRecorder) => Promise<T>,
): Promise<T> {
  const record = async (): Promise<Outcome<T>> => {
    const checks = new CheckRecorder();
    try {
      return { value: await run(checks), checks: checks.checks };
    } catch (error) {
      throw error instanceof AttestationError ? new StageFailure(error, checks.checks, context.now) : error;
    }
  };
  try {
    let outcome = await context.cache.once(context.crypto, name, key, record).catch((failure: unknown) => {
      // Shared with a run that began earlier, for another time: its refusal may be one of dates.
      if (failure instanceof StageFailure && failure.now !== context.now) return record();
      throw failure;
    });
    const { validFrom, validUntil } = outcome.value;
    if (context.now < validFrom || context.now > validUntil) outcome = await record();
    context.checks.append(outcome.checks);
    return outcome.value;
  } catch (failure) {
    if (!(failure instanceof StageFailure)) throw failure;
    context.checks.append(failure.checks);
    throw failure.error;
  }
}

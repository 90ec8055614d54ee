import { errorChain } from '@dstack-cloud/runtime';
import { type ConformanceCase, NotApplicable } from './case.ts';

export type Outcome = 'passed' | 'failed' | 'skipped' | 'known deviation' | 'no deviation any more';

export interface CaseResult {
  readonly id: string;
  readonly checks: string;
  readonly section: string;
  readonly outcome: Outcome;
  /** What was found, or why it was skipped, or why it is known. */
  readonly detail?: string;
}

export interface RunOptions {
  readonly extensions: boolean;
  /** Part of the ids to run; all without. */
  readonly only?: string | undefined;
  /** Why a case deviates, by its id. */
  readonly known: ReadonlyMap<string, string>;
  readonly onResult?: (result: CaseResult) => void;
}

/** Runs cases one after the other: each sees the implementation as the ones before left it. */
export async function runCases<Target>(
  cases: readonly ConformanceCase<Target>[],
  target: Target,
  { extensions, only, known, onResult }: RunOptions,
): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const one of cases) {
    if (only !== undefined && !one.id.includes(only)) continue;
    if (one.isExtension && !extensions) continue;
    const { id, checks, section } = one;
    const result = { id, checks, section, ...(await outcomeOf(one, target, known.get(id))) };
    results.push(result);
    onResult?.(result);
  }
  return results;
}

async function outcomeOf<Target>(
  one: ConformanceCase<Target>,
  target: Target,
  reason: string | undefined,
): Promise<Pick<CaseResult, 'outcome' | 'detail'>> {
  try {
    await one.run(target);
  } catch (error) {
    const detail = errorChain(error);
    if (error instanceof NotApplicable) return { outcome: 'skipped', detail };
    return reason === undefined
      ? { outcome: 'failed', detail }
      : { outcome: 'known deviation', detail: `${reason} (${detail})` };
  }
  return reason === undefined ? { outcome: 'passed' } : { outcome: 'no deviation any more', detail: reason };
}

/** A list that names what does not deviate would hide the next deviation. */
export function isConforming(results: readonly CaseResult[]): boolean {
  return results.every(({ outcome }) => outcome !== 'failed' && outcome !== 'no deviation any more');
}

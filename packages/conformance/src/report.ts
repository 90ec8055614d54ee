import type { CaseResult, Outcome } from './run-cases.ts';

const OUTCOMES: readonly Outcome[] = [
  'passed',
  'failed',
  'skipped',
  'known deviation',
  'no deviation any more',
];

/** How many cases ended how. */
function countOutcomes(results: readonly CaseResult[]): Record<Outcome, number> {
  const count = (outcome: Outcome): [Outcome, number] => [
    outcome,
    results.filter((result) => result.outcome === outcome).length,
  ];
  return Object.fromEntries(OUTCOMES.map(count)) as Record<Outcome, number>;
}

/** Lines for people: a passed case has one, another one also what was found and where it is described. */
export function resultLines({ id, checks, section, outcome, detail }: CaseResult): string[] {
  if (outcome === 'passed') return [`passed   ${id}`];
  if (outcome === 'skipped') return [`skipped  ${id}: ${detail ?? ''}`];
  return [
    `${outcome === 'failed' ? 'FAILED  ' : outcome} ${id}`,
    `         ${checks} (docs/protocol/${section.replace(' ', ', section ')})`,
    `         ${detail ?? ''}`,
  ];
}

export function summaryLine(results: readonly CaseResult[]): string {
  return Object.entries(countOutcomes(results))
    .filter(([outcome, count]) => count > 0 || outcome === 'passed' || outcome === 'failed')
    .map(([outcome, count]) => `${count} ${outcome}`)
    .join(', ');
}

/** The results as one JSON document. */
export function resultsJson(suite: string, results: readonly CaseResult[]): string {
  const counts = Object.fromEntries(
    Object.entries(countOutcomes(results)).map(([outcome, count]) => [outcome.replaceAll(' ', '_'), count]),
  );
  return JSON.stringify({ suite, ...counts, cases: results }, null, 2);
}

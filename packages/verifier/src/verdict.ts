import type { Report } from './report.ts';

/** What a report comes to, in one word for programs. */
export type Verdict =
  /** Genuine, accepted by policy, and what was expected. */
  | 'accepted'
  /** Genuine and accepted by policy, but nobody said what was wanted: it may be any application. */
  | 'nothing-compared'
  /** Genuine, but not what was wanted, or on a platform that the policy does not accept. */
  | 'not-accepted'
  | 'refused'
  /** Collateral is missing: neither good nor bad. */
  | 'cannot-judge';

type TimeOfReport = Pick<Report, 'verifiedAt' | 'verifiedNow'>;
type Findings = Pick<Report, 'isValid' | 'cannotJudge' | 'policy' | 'comparisons'>;

const WORDS: Readonly<Record<Verdict, string>> = {
  accepted: 'genuine, and what was expected',
  'nothing-compared': 'genuine, but nothing was compared with it',
  'not-accepted': 'genuine, but not accepted',
  refused: 'refused',
  'cannot-judge': 'cannot judge',
};

export function verdictOf({ isValid, cannotJudge, policy, comparisons }: Findings): Verdict {
  if (!isValid) return cannotJudge ? 'cannot-judge' : 'refused';
  if (!policy.ok) return 'not-accepted';
  return comparisons.length === 0 ? 'nothing-compared' : 'accepted';
}

/** The verdict in words: what another root vouches for is not called genuine, and another time than now is named. */
export function verdictText(report: Findings & TimeOfReport & Pick<Report, 'simulated'>): string {
  const words = WORDS[verdictOf(report)];
  const text = report.simulated ? words.replace('genuine', 'consistent (SIMULATED)') : words;
  return report.verifiedNow ? text : `${text}; at ${utcTime(report.verifiedAt)}, NOT now`;
}

/** The time that a report is about, marked when that is not the present. */
export function timeOfVerdict({ verifiedAt, verifiedNow }: TimeOfReport): string {
  const mark = verifiedNow ? 'now' : 'NOT now: a bundle or the reader asks for this time';
  return `${utcTime(verifiedAt)} (${mark})`;
}

/** RFC 3339 without fractions of seconds. @param seconds Unix time */
export function utcTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? String(seconds) : date.toISOString().replace(/\.\d+Z$/, 'Z');
}

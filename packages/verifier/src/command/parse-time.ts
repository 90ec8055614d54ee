import { VerifierError } from '../errors.ts';

/** Later than any certificate; what lies above was meant as milliseconds. */
const MAX_SECONDS = 1e11;

/** Unix seconds from a number of seconds, an RFC 3339 time, or `now`. @throws VerifierError `usage` */
export function parseTime(text: string): number {
  if (text === 'now') return Math.floor(Date.now() / 1000);
  if (/^\d{1,16}(\.\d+)?$/.test(text)) {
    const seconds = Math.floor(Number(text));
    if (seconds > 0 && seconds < MAX_SECONDS) return seconds;
    throw new VerifierError('usage', `${text} is no time in seconds; is it in milliseconds?`);
  }
  const parsed = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text)
    ? Date.parse(text)
    : Number.NaN;
  if (Number.isNaN(parsed)) {
    throw new VerifierError('usage', `${text} is no time: give now, Unix seconds or 2026-01-31T12:00:00Z`);
  }
  return Math.floor(parsed / 1000);
}

import type { LogQuery } from '../machine/containers.ts';

/** A log query and how its lines are written. */
export interface LogsRequest {
  readonly query: LogQuery;
  readonly text: boolean;
  readonly bare: boolean;
  readonly ansi: boolean;
}

/** What is wrong with a query: a flag value that is none (422), or an error that the stream itself tells. */
export type LogsProblem = 'unprocessable' | { readonly streamError: string };

const ON = new Set(['', 'true', 'on', 'yes']);
const OFF = new Set(['false', 'off', 'no']);
const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** Reads the query of `/logs/<container>` (docs/protocol/guest-agent.md section 5). `now` in unix seconds. */
export function parseLogsQuery(queryText: string, now: number): LogsRequest | LogsProblem {
  const parameters = new URLSearchParams(queryText);
  const flags = ['follow', 'text', 'bare', 'timestamps', 'ansi'].map((name) => flag(parameters.get(name)));
  if (flags.includes(undefined)) return 'unprocessable';
  const [follow = false, text = false, bare = false, timestamps = false, ansi = false] = flags;
  const since = time(parameters.get('since'), now);
  if (since === undefined) return { streamError: 'Invalid since' };
  const until = time(parameters.get('until'), now);
  if (until === undefined) return { streamError: 'Invalid until' };
  const tail = parameters.get('tail') || '1000';
  if (!/^(?:all|[0-9]{1,9})$/.test(tail)) return { streamError: 'Invalid tail' };
  return { query: { since, until, follow, timestamps, tail }, text, bare, ansi };
}

function flag(value: string | null): boolean | undefined {
  if (value === null || OFF.has(value)) return false;
  return ON.has(value) ? true : undefined;
}

/** Digits are absolute unix seconds, `<n>s|m|h|d` is so long ago, nothing is unbounded (0). */
function time(value: string | null, now: number): number | undefined {
  if (value === null || value === '') return 0;
  const found = /^([0-9]{1,12})([smhd]?)$/.exec(value);
  if (found === null) return undefined;
  const amount = Number(found[1]);
  return found[2] === '' ? amount : Math.max(0, now - amount * (UNIT_SECONDS[found[2] ?? ''] ?? 0));
}

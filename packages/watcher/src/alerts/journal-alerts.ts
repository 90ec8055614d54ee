import type { Alert } from './alert.ts';

/** Parts of the journal, in percent, after which the operator is called. */
const PARTS = [50, 75, 90] as const;

/** A journal that is full ends the watcher, so it is told long before. What strangers cause has only a share of it. */
export function journalAlerts(bytes: number, max: number, now: number): Alert[] {
  const part = PARTS.findLast((percent) => bytes * 100 >= max * percent);
  if (part === undefined) return [];
  return [
    {
      id: `journal-filling/${part}`,
      rule: 'journal-filling',
      severity: part === 90 ? 'critical' : 'warning',
      text: `The journal of the watcher has ${part}% of the ${max / 2 ** 20} MiB that it may have, and nothing is followed when it is full. See which events fill it (events_total); a new folder in state_path with a later from_block begins small`,
      time: Math.floor(now),
    },
  ];
}

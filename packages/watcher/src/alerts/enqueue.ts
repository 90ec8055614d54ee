import { printable } from '@dstack-cloud/encoding';
import type { Pending, WatchState } from '../state/watch-state.ts';
import { type Alert, rank, type Severity } from './alert.ts';

/** Where messages go. */
export type Outlets = {
  readonly log: boolean;
  /** Undefined without one. */
  readonly webhook: { readonly minSeverity: Severity } | undefined;
  /** Messages that may wait. */
  readonly maxWaiting: number;
};

/** Longest text of a message. */
const MAX_TEXT = 4_000;
/** All texts that wait, in characters: the state that is written can be read again. */
const MAX_WAITING_TEXT = 4 * 2 ** 20;

/** Ids that are remembered of events, and of what lasts, so that one thing is told once. */
const MAX_TOLD = 2_000;
/** Strangers can cause any number of events, which must not push out what lasts. */
const OF_EVENT = /^([0-9a-f]{32}\/|0x[0-9a-f]{64}\/0x[0-9a-f]{40}\/|0x[0-9a-f]{40}\/app-muted$)/;

/** Puts alerts among what is to be told. When too much waits, the least grave and oldest is given up, and counted. */
export function enqueue(state: WatchState, alerts: readonly Alert[], outlets: Outlets): WatchState {
  const told = new Map(Object.entries(state.told));
  const counts = { ...state.counts };
  let { sequence, dropped } = state;
  let outbox: Pending[] = [...state.outbox];
  for (const alert of alerts) {
    const before = told.get(alert.id);
    if (before !== undefined) {
      // What still lasts is forgotten last.
      told.delete(alert.id);
      told.set(alert.id, before);
      continue;
    }
    told.set(alert.id, alert.time);
    const key = `alert/${alert.severity}/${alert.rule}`;
    counts[key] = (counts[key] ?? 0) + 1;
    const wanted = outlets.webhook && rank(alert.severity) >= rank(outlets.webhook.minSeverity);
    const to = [...(outlets.log ? ['log' as const] : []), ...(wanted ? ['webhook' as const] : [])];
    if (to.length === 0) continue;
    sequence += 1;
    // Receivers show it: what a stranger put in moves none of the text around it.
    outbox.push({ sequence, alert: { ...alert, text: printable(alert.text, { max: MAX_TEXT }) }, to });
  }
  const given = toGiveUp(outbox, outlets.maxWaiting);
  outbox = outbox.filter((one) => !given.has(one));
  dropped += given.size;
  const kept = [true, false].flatMap((ofEvent) =>
    [...told].filter(([id]) => OF_EVENT.test(id) === ofEvent).slice(-MAX_TOLD),
  );
  return { ...state, told: Object.fromEntries(kept), counts, sequence, outbox, dropped };
}

/** The least grave first, and of those the oldest, until the rest may wait. A flood costs one look at each. */
function toGiveUp(outbox: readonly Pending[], maxWaiting: number): Set<Pending> {
  const given = new Set<Pending>();
  let length = outbox.reduce((sum, { alert }) => sum + alert.text.length, 0);
  const isEnough = (): boolean => outbox.length - given.size <= maxWaiting && length <= MAX_WAITING_TEXT;
  const order = isEnough() ? [] : outbox.toSorted((a, b) => rank(a.alert.severity) - rank(b.alert.severity));
  for (const one of order) {
    if (isEnough()) break;
    given.add(one);
    length -= one.alert.text.length;
  }
  return given;
}

import type { Alert } from '../alerts/alert.ts';
import { reorganised, withdrawn } from '../alerts/chain-alerts.ts';
import type { GovernanceEvent } from '../events/governance-event.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import { rewound } from './changes-left-out.ts';
import type { ModelKeeper } from './model-keeper.ts';
import { strangerOf } from './strangers-share.ts';

/** Blocks that an abandoned event may take to come back. */
const COMES_BACK_WITHIN = 64;

/** Events of blocks after `last` are abandoned for now; their transactions mostly come back. */
export async function rollBack(keeper: ModelKeeper, last: number): Promise<readonly Alert[]> {
  const { state } = keeper.store;
  const height = state.checkpoints.at(-1)!.number;
  const gone = keeper.model.after(last);
  const sources = Object.fromEntries(
    Object.entries(state.sources).map(([address, { pendingTold, flags, ...source }]) => [
      address,
      {
        ...rewound(source, Math.min(source.next, last + 1)),
        // What comes in place of history is new, and what history ended may be pending once more.
        alertsFrom: Math.min(source.alertsFrom, last + 1),
        // Read once more after what changed it is gone.
        ...(flags !== undefined && source.next <= last + 1 ? { flags } : {}),
        ...(pendingTold === true && source.alertsFrom <= last + 1 ? { pendingTold } : {}),
      },
    ]),
  );
  const orphans = { ...state.orphans };
  for (const { id } of gone) orphans[id] = height;
  const alerts = [reorganised(height, last, gone.length, state.checkpoints.at(-1)!)];
  const verified = Math.min(state.verified, last);
  const checkpoints = state.checkpoints.filter(({ number }) => number <= last);
  await keeper.commit({ sources, orphans, verified, checkpoints }, alerts, [], true);
  return alerts;
}

/** Abandoned events that did not come back never happened. */
export async function giveUpOrphans(
  keeper: ModelKeeper,
  target: number,
  isListed: (address: string) => boolean,
): Promise<readonly Alert[]> {
  const { store } = keeper;
  const lost = new Set(
    Object.entries(store.state.orphans)
      .filter(([, height]) => target >= height + COMES_BACK_WITHIN)
      .map(([id]) => id),
  );
  if (lost.size === 0) return [];
  const orphans = { ...store.state.orphans };
  for (const id of lost) delete orphans[id];
  const events = store.entries.flatMap((entry) =>
    entry.type === 'event' && lost.has(entry.event.id) ? [entry.event] : [],
  );
  // Of history only what was pending was told.
  const wasTold = ({ id, history }: GovernanceEvent): boolean =>
    !history || Object.hasOwn(store.state.told, `${id}/new-proposal`);
  const alerts = events
    .filter(wasTold)
    .map((event) => withdrawn(event, strangerOf(event, isListed) === undefined ? 'critical' : 'info'));
  const entries = [...lost].map((id) => ({ type: 'withdrawn', id }) as const);
  await keeper.commit({ orphans }, alerts, entries, true);
  return alerts;
}

/** Which events are new, and which were known and are in another block now; the rest was read before. */
export function sortOut(
  events: readonly GovernanceEvent[],
  known: GovernanceModel,
  orphans: Readonly<Record<string, number>>,
): { readonly fresh: GovernanceEvent[]; readonly moved: GovernanceEvent[] } {
  return {
    fresh: events.filter(({ id }) => !known.has(id) && !(id in orphans)),
    moved: events.filter(({ id }) => id in orphans),
  };
}

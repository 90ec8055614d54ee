import type { Alert } from '../alerts/alert.ts';
import type { AlertContext } from '../alerts/occurrence.ts';
import { waitingSinceBefore } from '../alerts/waiting-since-before.ts';
import type { ModelKeeper } from './model-keeper.ts';

/**
 * What a contract has pending when it is first read whole was proposed before anybody watched, and can still take effect:
 * it is told then. That it was told is kept in the same write as the alerts, so a kill neither loses nor repeats one.
 */
export async function tellPending(
  keeper: ModelKeeper,
  context: AlertContext,
  now: number,
): Promise<readonly Alert[]> {
  const { kms, sources } = keeper.store.state;
  const untold = Object.entries(sources).filter(
    ([, { listed, muted, pendingTold }]) => listed && muted === undefined && pendingTold !== true,
  );
  if (untold.length === 0) return [];
  const contracts = new Set(untold.map(([address]) => address));
  const alerts = waitingSinceBefore(keeper.model, contracts, { kms, now, context });
  const marked = untold.map(([address, source]) => [address, { ...source, pendingTold: true }] as const);
  await keeper.tell({ sources: { ...sources, ...Object.fromEntries(marked) } }, alerts);
  return alerts;
}

import type { GovernanceEvent } from '../events/governance-event.ts';
import { argument } from '../model/apply-contract.ts';
import type { GovernanceModel } from '../model/governance-model.ts';

/**
 * False for what changes nothing and anybody can cause without end: an app that is registered once more, and money that a
 * Safe gets.
 */
export function newsFilter({ apps }: GovernanceModel): (event: GovernanceEvent) => boolean {
  const registered = new Set<string>();
  return (event) => {
    if (event.source === 'safe') return event.name !== 'SafeReceived';
    if (event.source !== 'kms' || event.name !== 'AppRegistered') return true;
    const app = argument(event, 'appId');
    const isNew = apps.get(app)?.registered !== true && !registered.has(app);
    registered.add(app);
    return isNew;
  };
}

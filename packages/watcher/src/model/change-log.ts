import type { KnownContracts } from '@dstack-cloud/governance';
import type { Alert } from '../alerts/alert.ts';
import { alertsFor } from '../alerts/rules.ts';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { GovernanceModel } from './governance-model.ts';

/** All changes in words, in the order of the chain; what came to it since the last look is added. */
export class ChangeLog {
  #running = new GovernanceModel();
  #changes: Alert[] = [];
  #events: readonly GovernanceEvent[] = [];

  /** @param isListed whose changes are more than information */
  of(
    model: GovernanceModel,
    known: KnownContracts,
    isListed: (address: string) => boolean,
  ): readonly Alert[] {
    const done = this.#running.events.length;
    // After a reorganisation the events before are others.
    if (done > 0 && model.events !== this.#events) {
      this.#running = new GovernanceModel();
      this.#changes = [];
    }
    this.#events = model.events;
    const context = { known, isListed, inUse: new Set<string>() };
    const seen = new Set(this.#changes.slice(-256).map(({ id }) => id));
    for (const event of model.events.slice(this.#running.events.length)) {
      const batch = model.sameTransaction(event.tx);
      for (const alert of alertsFor({ event, model: this.#running, batch, context })) {
        if (!seen.has(alert.id)) this.#changes.push(alert);
        seen.add(alert.id);
      }
      this.#running.apply(event);
    }
    return this.#changes;
  }
}

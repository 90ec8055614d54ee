import type { Alert } from '../alerts/alert.ts';
import type { AlertContext } from '../alerts/occurrence.ts';
import { alertsFor } from '../alerts/rules.ts';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { GovernanceModel } from '../model/governance-model.ts';
import type { StateStore } from '../state/state-store.ts';
import type { JournalEntry, WatchState } from '../state/watch-state.ts';

/** Takes alerts into the next state. */
export type Enqueue = (state: WatchState, alerts: readonly Alert[]) => WatchState;

/** Keeps the governance model and the store of its events together: neither is ever ahead of the other. */
export class ModelKeeper {
  readonly store: StateStore;
  readonly #enqueue: Enqueue;
  #model: GovernanceModel | undefined;
  /** The model with events that are not in the store yet. */
  #judged: GovernanceModel | undefined;

  constructor(store: StateStore, enqueue: Enqueue) {
    this.store = store;
    this.#enqueue = enqueue;
  }

  /** The governance state that the events of the store add up to. */
  get model(): GovernanceModel {
    this.#model ??= GovernanceModel.of(this.store);
    return this.#model;
  }

  /** Evaluates each event by the state before it. The result counts with the next `commit`. */
  judge(events: readonly GovernanceEvent[], context: AlertContext): Alert[] {
    const { model } = this;
    // A failure after this would leave the model ahead of the store.
    this.#model = undefined;
    const alerts = new Map<string, Alert>();
    for (const event of events) {
      const found = event.history ? [] : alertsFor({ event, model, batch: events, context });
      for (const alert of found) if (!alerts.has(alert.id)) alerts.set(alert.id, alert);
      model.apply(event);
    }
    this.#judged = model;
    return [...alerts.values()];
  }

  /** Keeps what is to be told, with a change that touches no event. */
  async tell(change: Partial<WatchState>, alerts: readonly Alert[]): Promise<void> {
    await this.store.update((state) => this.#enqueue({ ...state, ...change }, alerts));
  }

  /** @param changesOrder true if events are older than known ones, or are gone: the model is made from the store again */
  async commit(
    change: Partial<WatchState>,
    alerts: readonly Alert[],
    entries: readonly JournalEntry[],
    changesOrder: boolean,
  ): Promise<void> {
    const judged = this.#judged;
    this.#judged = undefined;
    await this.store.update((state) => this.#enqueue({ ...state, ...change }, alerts), entries);
    this.#model = changesOrder ? undefined : judged;
  }
}

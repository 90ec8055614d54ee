import type { KnownContracts } from '@dstack-cloud/governance';
import type { GovernanceEvent } from '../events/governance-event.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { Severity } from './alert.ts';

/** What the rules know beside the chain. */
export type AlertContext = {
  readonly known: KnownContracts;
  /** Named in the configuration: whose changes somebody is called for. */
  readonly isListed: (address: string) => boolean;
  /** Measurements that running services have. */
  readonly inUse: ReadonlySet<string>;
};

/** What a rule says about an event. */
export type Finding = {
  readonly rule: string;
  readonly severity: Severity;
  readonly text: string;
  /** Instead of the event's: several events may be about one thing. */
  readonly id?: string;
};

/** One event, before it is applied to the model, and the events that are read together with it. */
export type Occurrence = {
  readonly event: GovernanceEvent;
  readonly model: GovernanceModel;
  readonly batch: readonly GovernanceEvent[];
  readonly context: AlertContext;
};

/** Who changed the policy, as the contract says, else who sent the transaction. */
export function actorOf({ event, model, batch }: Omit<Occurrence, 'context'>): string {
  const own = event.args['actor'];
  if (typeof own === 'string') return own;
  const said = together({ event, model, batch }).find(
    ({ name, address }) => name === 'PolicyChanged' && address === event.address,
  )?.args['actor'];
  return typeof said === 'string' ? said : event.sender;
}

/** All events of the transaction that are known. */
export function together({ event, model, batch }: Omit<Occurrence, 'context'>): readonly GovernanceEvent[] {
  const before = model.sameTransaction(event.tx);
  return [...before, ...batch.filter((one) => one.tx === event.tx && !model.has(one.id))];
}

/** Whether all that is known of the contract is this transaction: it makes the contract. */
export function isBeingMade({ event, model }: Pick<Occurrence, 'event' | 'model'>): boolean {
  const here = model.sameTransaction(event.tx).filter(({ address }) => address === event.address);
  return here.length === model.eventsOf(event.address);
}

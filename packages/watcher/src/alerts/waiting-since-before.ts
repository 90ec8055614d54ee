import type { GovernanceEvent } from '../events/governance-event.ts';
import { announcedCalls } from '../model/announced-calls.ts';
import { argument as a } from '../model/apply-contract.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { Alert } from './alert.ts';
import type { AlertContext } from './occurrence.ts';
import { alertsFor } from './rules.ts';

const RULES = new Set(['new-proposal', 'suspicious-proposal']);

/**
 * The alerts of proposals that were made before these contracts were followed, and that can still take effect. Their ids
 * are those that they would have had then.
 */
export function waitingSinceBefore(
  model: GovernanceModel,
  contracts: ReadonlySet<string>,
  { kms, now, context }: { readonly kms: string; readonly now: number; readonly context: AlertContext },
): Alert[] {
  const waiting = proposalsThatWait(model, kms, now, context.isListed);
  // What was proposed once more has several events: the last one counts.
  const proposals = new Map<string, GovernanceEvent>();
  for (const event of model.events) {
    if (!contracts.has(event.address)) continue;
    const key = keyOf(event);
    if (key !== undefined && waiting.has(key)) proposals.set(key, event);
  }
  return [...proposals.values()]
    .filter(({ history }) => history)
    .flatMap((event) => {
      const batch = model.sameTransaction(event.tx);
      return alertsFor({ event, model, batch, context })
        .filter(({ rule }) => RULES.has(rule))
        .map((alert) => ({ ...alert, text: `Pending since before it was watched: ${alert.text}` }));
    });
}

function proposalsThatWait(
  model: GovernanceModel,
  kms: string,
  now: number,
  isListed: AlertContext['isListed'],
): Set<string> {
  return new Set([
    ...[...model.timelocks].flatMap(([address, { operations }]) =>
      [...operations.values()]
        .filter(({ state }) => state === 'pending')
        .map(({ id, scheduled }) => `${address}/${scheduled.tx}/${id}`),
    ),
    ...announcedCalls(model, kms, now, isListed).map(
      ({ contract, tx, callHash }) => `${contract}/${tx}/${callHash}`,
    ),
    ...[...model.safes].flatMap(([address, { approvals }]) =>
      [...approvals].flatMap(([hash, { owners }]) =>
        [...owners].map((owner) => `${address}/${owner}/${hash}`),
      ),
    ),
  ]);
}

/** Undefined for what is no proposal. */
function keyOf(event: GovernanceEvent): string | undefined {
  const { name, address, tx } = event;
  switch (name) {
    case 'CallScheduled':
      return a(event, 'index') === '0' ? `${address}/${tx}/${a(event, 'id')}` : undefined;
    case 'CallAnnounced':
      return `${address}/${tx}/${a(event, 'callHash')}`;
    case 'ApproveHash':
      return `${address}/${a(event, 'owner')}/${a(event, 'approvedHash')}`;
    default:
      return undefined;
  }
}

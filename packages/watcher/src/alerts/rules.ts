import type { Alert } from './alert.ts';
import { contractRule } from './contract-rules.ts';
import { actorOf, type Occurrence } from './occurrence.ts';
import { safeRule } from './safe-rules.ts';
import { timelockRule } from './timelock-rules.ts';
import { unscheduled } from './unscheduled.ts';

/** Who is called for an event, and why. */
export function alertsFor(occurrence: Occurrence): Alert[] {
  const { event, context } = occurrence;
  const rules = { kms: contractRule, app: contractRule, timelock: timelockRule, safe: safeRule };
  const findings = [...rules[event.source](occurrence), ...unscheduled(occurrence)];
  const isOurs = event.source !== 'app' || context.isListed(event.address);
  return findings.map(({ rule, severity, text, id = event.id }) => ({
    id: `${id}/${rule}`,
    rule,
    // What tenants do to their apps is theirs to decide.
    severity: isOurs ? severity : 'info',
    text,
    time: event.time,
    contract: event.address,
    event: event.name,
    block: event.block,
    transaction: event.tx,
    actor: actorOf(occurrence),
  }));
}

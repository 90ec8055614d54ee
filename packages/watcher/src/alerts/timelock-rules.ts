import { type CallInWords, durationText, roleOf } from '@dstack-cloud/governance';
import type { Hex } from 'viem';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { argument as a } from '../model/apply-contract.ts';
import { type AlertContext, type Finding, isBeingMade, type Occurrence } from './occurrence.ts';
import { callInWords, proposal } from './proposal.ts';

/** What a Timelock tells. */
export function timelockRule(occurrence: Occurrence): Finding[] {
  const { event } = occurrence;
  switch (event.name) {
    case 'CallScheduled':
      return a(event, 'index') === '0' ? proposed(occurrence) : [];
    case 'CallExecuted':
      if (a(event, 'index') !== '0') return [];
      return [
        { rule: 'proposal-executed', severity: 'info', text: `Operation ${a(event, 'id')} is executed` },
      ];
    case 'Cancelled':
      return [
        { rule: 'proposal-cancelled', severity: 'warning', text: `Operation ${a(event, 'id')} is cancelled` },
      ];
    case 'MinDelayChange': {
      const [before, after] = [BigInt(a(event, 'oldDuration')), BigInt(a(event, 'newDuration'))];
      if (isBeingMade(occurrence)) return [];
      const text = `The delay of the Timelock is ${durationText(after)} now, and was ${durationText(before)}`;
      return [{ rule: 'delay-changed', severity: after < before ? 'critical' : 'warning', text }];
    }
    case 'RoleGranted':
    case 'RoleRevoked': {
      // The constructor grants the first ones.
      if (isBeingMade(occurrence)) return [];
      const role = roleOf(a(event, 'role') as Hex) ?? a(event, 'role');
      const verb = event.name === 'RoleGranted' ? 'has now' : 'has no longer';
      return [
        {
          rule: 'role-changed',
          severity: 'critical',
          text: `${a(event, 'account')} ${verb} the role ${role} of the Timelock`,
        },
      ];
    }
    case 'RoleAdminChanged':
      return [
        {
          rule: 'role-changed',
          severity: 'critical',
          text: `Role ${a(event, 'role')} of the Timelock has another admin role`,
        },
      ];
    case 'unknown':
      return [
        {
          rule: 'unknown-event',
          severity: 'warning',
          text: 'The Timelock has an event that this program does not know',
        },
      ];
    default:
      return [];
  }
}

/** What was scheduled, in words. */
function proposed({ event, batch, context }: Occurrence): Finding[] {
  const id = a(event, 'id');
  const events = batch.filter(
    (one) => one.name === 'CallScheduled' && one.tx === event.tx && a(one, 'id') === id,
  );
  const calls = events.map((one) => inWords(one, context));
  const delay = durationText(BigInt(a(event, 'delay')));
  return proposal(`Operation ${id} is scheduled`, `to be executed after ${delay}`, calls, context);
}

/** The call that an event of the Timelock is about. */
function inWords(event: GovernanceEvent, { known }: Pick<AlertContext, 'known'>): CallInWords {
  return callInWords({ target: a(event, 'target'), value: a(event, 'value'), data: a(event, 'data') }, known);
}

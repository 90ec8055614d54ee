import type { GovernanceEvent } from '../events/governance-event.ts';
import type { Checkpoint } from '../state/watch-state.ts';
import type { Alert, Severity } from './alert.ts';

/** The chain went back to a block, and went on from there. */
export function reorganised(height: number, last: number, events: number, gone: Checkpoint): Alert {
  return {
    id: `${gone.hash}/reorganised`,
    rule: 'chain-reorganised',
    severity: events > 0 ? 'warning' : 'info',
    text: `The chain was reorganised: ${height - last} blocks after block ${last} are gone, with ${events} events; those that come back are not told again`,
    time: gone.time,
    block: last,
  };
}

/** An event was removed by a reorganisation, and did not come back. */
export function withdrawn(event: GovernanceEvent, severity: Severity): Alert {
  return {
    id: `${event.id}/withdrawn`,
    rule: 'event-withdrawn',
    severity,
    text: `${event.name} of block ${event.block} never happened: a reorganisation removed it, and it did not come back`,
    time: event.time,
    contract: event.address,
    event: event.name,
    block: event.block,
    transaction: event.tx,
  };
}

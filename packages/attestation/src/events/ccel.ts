import type { TdxEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { EV_NO_ACTION, parseBootLog } from './boot-log.ts';

/**
 * The events of a CCEL as dstack lists them: MR index 1..4 as imr 0..3, one SHA-384 digest each; events of
 * index 0, which GCP writes, and those that extend nothing are dropped (docs/protocol/event-logs.md section 2.2).
 * @throws AttestationError `malformed`, `too-large`
 */
export function ccelEvents(bytes: Uint8Array): TdxEvent[] {
  return parseBootLog(bytes)
    .events.filter((event) => event.index !== 0 && event.type !== EV_NO_ACTION)
    .map((event) => {
      const digest = event.digests.get('sha384');
      if (event.index > 4 || event.digests.size !== 1 || !digest) {
        throw new AttestationError('malformed', 'A CCEL event is not of an RTMR with one SHA-384 digest', {
          found: `MR index ${event.index}, ${[...event.digests.keys()].join(', ')}`,
        });
      }
      return { imr: event.index - 1, eventType: event.type, digest, event: '', eventPayload: event.data };
    });
}

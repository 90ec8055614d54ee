import type { RuntimeEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { checkSystemEvents } from '../events/system-events.ts';

/** Values which the guest measured before the system was ready. */
export interface BootEvents {
  /** 20 bytes. */
  readonly appId: Uint8Array;
  /** 32 bytes. */
  readonly composeHash: Uint8Array;
  /** 20 bytes or empty. */
  readonly instanceId: Uint8Array;
  /** Payload of `key-provider`; empty when there is none. */
  readonly keyProvider: Uint8Array;
}

const NOTHING = new Uint8Array();

/**
 * Reads the system's own events, those up to the first `system-ready`, after they were held to the list of
 * `SYSTEM_EVENTS`. What a KMS decides on must be there once, with its exact length: a missing one is never an empty
 * value.
 * @throws AttestationError `event-log`
 */
export function readBootEvents(events: readonly RuntimeEvent[]): BootEvents {
  const system = checkSystemEvents(events);
  const payload = (name: string) => system.find((event) => event.event === name)?.payload ?? NOTHING;
  return {
    appId: payload('app-id'),
    composeHash: payload('compose-hash'),
    instanceId: payload('instance-id'),
    keyProvider: payload('key-provider'),
  };
}

/** App id and instance id of a mode whose events are not measured; a missing one is empty. */
export function readUnmeasuredIds(events: readonly RuntimeEvent[]): Pick<BootEvents, 'appId' | 'instanceId'> {
  return { appId: unmeasuredId(events, 'app-id'), instanceId: unmeasuredId(events, 'instance-id') };
}

function unmeasuredId(events: readonly RuntimeEvent[], name: string): Uint8Array {
  const [event, ...more] = events.filter((candidate) => candidate.event === name);
  if (more.length > 0) {
    throw new AttestationError('event-log', `The event ${name} is repeated`, {
      expected: 'once',
      found: `${more.length + 1} times`,
    });
  }
  const payload = event?.payload ?? NOTHING;
  if (payload.length === 0 || payload.length === 20) return payload;
  throw new AttestationError('event-log', `The event ${name} has the wrong length`, {
    expected: '20 bytes',
    found: `${payload.length} bytes`,
  });
}

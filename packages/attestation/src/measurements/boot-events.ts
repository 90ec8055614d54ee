import { toHex } from '@dstack-cloud/encoding';
import type { RuntimeEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

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
/** Up to the freeze point of boot-time measurements, in this order, each once (section 2.6). */
const BOOT_SEQUENCE = 'system-preparing, app-id, compose-hash, instance-id, boot-mr-done';
/** Events of older and newer releases, which may stand between them. */
const TOLERATED = new Set(['rootfs-hash', 'init-script-hash']);

/**
 * Reads the system's own events, those before the first `system-ready` (chapter 20 section 2.6). What a KMS
 * decides on must be there once, with its exact length: a missing one is never an empty value (section 10
 * point 14).
 * @throws AttestationError `event-log`
 */
export function readBootEvents(events: readonly RuntimeEvent[]): BootEvents {
  const ready = events.findIndex((event) => event.event === 'system-ready');
  const system = ready < 0 ? events : events.slice(0, ready);
  checkSequence(system);
  // Nothing of the sequence again after its end: readers would differ on which one counts.
  for (const name of BOOT_SEQUENCE.split(', ')) single(system, name);
  const instanceId = single(system, 'instance-id') ?? NOTHING;
  if (instanceId.length !== 0) checkLength('instance-id', instanceId, 20);
  return {
    appId: required(system, 'app-id', 20),
    composeHash: required(system, 'compose-hash', 32),
    instanceId,
    keyProvider: single(system, 'key-provider') ?? NOTHING,
  };
}

/** App id and instance id of a mode whose events are not measured; a missing one is empty. */
export function readUnmeasuredIds(events: readonly RuntimeEvent[]): Pick<BootEvents, 'appId' | 'instanceId'> {
  const appId = single(events, 'app-id') ?? NOTHING;
  if (appId.length !== 0) checkLength('app-id', appId, 20);
  const instanceId = single(events, 'instance-id') ?? NOTHING;
  if (instanceId.length !== 0) checkLength('instance-id', instanceId, 20);
  return { appId, instanceId };
}

function checkSequence(system: readonly RuntimeEvent[]): void {
  const names = system.map((event) => event.event).filter((name) => !TOLERATED.has(name));
  const done = names.indexOf('boot-mr-done');
  const found = (done < 0 ? names : names.slice(0, done + 1)).slice(0, 16).join(', ');
  if (found === BOOT_SEQUENCE) return;
  throw new AttestationError('event-log', 'The boot events are not in their order', {
    expected: BOOT_SEQUENCE,
    found,
  });
}

function required(events: readonly RuntimeEvent[], name: string, length: number): Uint8Array {
  const payload = single(events, name);
  if (!payload) throw new AttestationError('event-log', `The event ${name} is missing`, { expected: name });
  checkLength(name, payload, length);
  return payload;
}

function single(events: readonly RuntimeEvent[], name: string): Uint8Array | undefined {
  const found = events.filter((event) => event.event === name);
  if (found.length > 1) {
    throw new AttestationError('event-log', `The event ${name} is repeated`, {
      expected: 'once',
      found: `${found.length} times`,
    });
  }
  return found[0]?.payload;
}

function checkLength(name: string, payload: Uint8Array, length: number): void {
  if (payload.length === length) return;
  throw new AttestationError('event-log', `The event ${name} has the wrong length`, {
    expected: `${length} bytes`,
    found: `${payload.length} bytes (${toHex(payload.subarray(0, 40))})`,
  });
}

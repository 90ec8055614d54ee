import type { RuntimeEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { EVENT } from './event-names.ts';

/** One event of the system's own, as releases of the guest write it. */
export interface SystemEventRule {
  readonly name: string;
  /** Releases that write it, of the original's 0.6 line and its newer upstream. */
  readonly releases: string;
  /** Must be there, and is there once. */
  readonly required: boolean;
  readonly atMost: number;
  /** Accepted lengths of the payload: exact ones, or a range. */
  readonly bytes: readonly number[] | { readonly from: number; readonly to: number };
  /** What a verifier reads from it. */
  readonly meaning: string;
}

const once = { required: true, atMost: 1 } as const;
const optional = { required: false, atMost: 1 } as const;
/** Bounds of the original: five scripts; an event a KMS connection that was tried. */
const MAX_INIT_SCRIPTS = 5;
const MAX_KMS_TRIES = 64;
const MAX_TEXT = 4096;

/**
 * Every event that the system measures, in its order. Up to `boot-mr-done` the list is closed, since those events say
 * what the machine is: an unknown one might change the meaning of the others.
 */
export const SYSTEM_EVENTS: readonly SystemEventRule[] = [
  { name: EVENT.systemPreparing, releases: 'all', ...once, bytes: [0], meaning: 'measuring begins' },
  { name: EVENT.rootfsHash, releases: 'before 0.6', ...optional, bytes: [32, 48], meaning: 'nothing' },
  { name: EVENT.appId, releases: 'all', ...once, bytes: [20], meaning: 'app id' },
  { name: EVENT.composeHash, releases: 'all', ...once, bytes: [32], meaning: 'compose hash' },
  {
    name: EVENT.initScriptHash,
    releases: 'newer',
    required: false,
    atMost: MAX_INIT_SCRIPTS,
    bytes: [32],
    meaning: 'hash of one init script',
  },
  { name: EVENT.gpuPolicyHash, releases: 'newer', ...optional, bytes: [32], meaning: 'nothing' },
  {
    name: EVENT.gpuAttestation,
    releases: 'newer, with a GPU',
    ...optional,
    bytes: { from: 1, to: MAX_TEXT },
    meaning: 'nothing',
  },
  { name: EVENT.instanceId, releases: 'all', ...once, bytes: [0, 20], meaning: 'instance id' },
  {
    name: EVENT.bootMrDone,
    releases: 'all',
    ...once,
    bytes: [0],
    meaning: 'end of what keys are released on',
  },
  {
    name: EVENT.mrKms,
    releases: '0.6',
    required: false,
    atMost: MAX_KMS_TRIES,
    bytes: [32],
    meaning: 'nothing',
  },
  { name: EVENT.osImageHash, releases: 'all, with a KMS', ...optional, bytes: [32], meaning: 'nothing' },
  {
    name: EVENT.keyProvider,
    releases: 'all',
    ...optional,
    bytes: { from: 2, to: MAX_TEXT },
    meaning: 'key provider',
  },
  { name: EVENT.storageFs, releases: 'all', ...optional, bytes: { from: 1, to: 64 }, meaning: 'nothing' },
  { name: EVENT.systemReady, releases: 'all', ...optional, bytes: [0], meaning: 'the workload begins' },
];

const FREEZE = SYSTEM_EVENTS.findIndex(({ name }) => name === EVENT.bootMrDone);
/** Unknown events that one log may hold between `boot-mr-done` and `system-ready`. */
const MAX_UNKNOWN = 16;
/**
 * The form of the system's names. Version 1 digests do not tell where a name ends and its payload begins
 * (`name:payload`), so that a known event could be read as one of another name with a colon in it.
 */
const NAME = /^[a-z][a-z0-9-]{0,63}$/;

/** The system's own events: those before the first `system-ready`, after which the workload may write any. */
function systemPart(events: readonly RuntimeEvent[]): readonly RuntimeEvent[] {
  const ready = events.findIndex((event) => event.event === EVENT.systemReady);
  return ready < 0 ? events : events.slice(0, ready + 1);
}

/** Payloads of the system's events of one name, in order. */
export function systemPayloads(events: readonly RuntimeEvent[], name: string): Uint8Array[] {
  return systemPart(events)
    .filter((event) => event.event === name)
    .map(({ payload }) => payload);
}

/**
 * Holds the system's events to the list: order, number and length. After `boot-mr-done`, events of names that are not
 * on the list are borne, once each: nothing is read from them.
 * @returns the system's events
 * @throws AttestationError `event-log`
 */
export function checkSystemEvents(events: readonly RuntimeEvent[]): readonly RuntimeEvent[] {
  const system = systemPart(events);
  const counts = new Map<string, number>();
  let unknown = 0;
  let place = 0;
  for (const event of system) {
    const found = SYSTEM_EVENTS.findIndex(({ name }) => name === event.event);
    const seen = (counts.get(event.event) ?? 0) + 1;
    counts.set(event.event, seen);
    if (found < 0) {
      requireBearable(event, place > FREEZE, seen, ++unknown);
      continue;
    }
    const rule = SYSTEM_EVENTS[found]!;
    if (seen > rule.atMost) throw repeated(rule, seen);
    const missing = SYSTEM_EVENTS.slice(place, found).find(
      ({ required, name }) => required && !counts.has(name),
    );
    if (found < place || missing) throw misplaced(system);
    checkLength(rule, event.payload.length);
    // Past `boot-mr-done` the place is behind it, so that what follows is told apart from what decides.
    place = found === FREEZE ? found + 1 : found;
  }
  if (place <= FREEZE) throw misplaced(system);
  return system;
}

function requireBearable(event: RuntimeEvent, afterFreeze: boolean, seen: number, unknown: number): void {
  if (afterFreeze && NAME.test(event.event) && seen === 1 && unknown <= MAX_UNKNOWN) return;
  const where = afterFreeze ? 'before system-ready' : 'before boot-mr-done';
  throw new AttestationError('event-log', `An event of an unknown name stands ${where}`, {
    expected: afterFreeze
      ? `names like key-provider, each once, at most ${MAX_UNKNOWN}`
      : 'events of the list',
    found: event.event.slice(0, 80),
  });
}

function repeated({ name, atMost }: SystemEventRule, seen: number): AttestationError {
  return new AttestationError('event-log', `The event ${name} is repeated`, {
    expected: atMost === 1 ? 'once' : `at most ${atMost} times`,
    found: `${seen} times`,
  });
}

function misplaced(system: readonly RuntimeEvent[]): AttestationError {
  return new AttestationError('event-log', 'The boot events are not in their order', {
    expected: SYSTEM_EVENTS.map(({ name, required }) => (required ? name : `[${name}]`)).join(', '),
    found: system
      .slice(0, 24)
      .map(({ event }) => event.slice(0, 40))
      .join(', '),
  });
}

function checkLength({ name, bytes }: SystemEventRule, length: number): void {
  const fits = 'from' in bytes ? length >= bytes.from && length <= bytes.to : bytes.includes(length);
  if (fits) return;
  throw new AttestationError('event-log', `The event ${name} has the wrong length`, {
    expected: 'from' in bytes ? `${bytes.from} to ${bytes.to} bytes` : `${bytes.join(' or ')} bytes`,
    found: `${length} bytes`,
  });
}

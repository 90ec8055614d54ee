import { equalBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import type { RuntimeEvent, TdxEvent } from '../attestation.ts';
import type { CheckRecorder } from '../check-recorder.ts';
import { replayDigests } from './replay.ts';
import { RUNTIME_EVENT_TYPE, runtimeEventDigest, runtimeEventPreimage } from './runtime-events.ts';
import { isAcpiData } from './strip.ts';

const REFERENCE = 'docs/protocol/verification.md section 3';
const DIGEST_SIZE = 48;

/**
 * The TDX event log against what was measured: its runtime events are those which RTMR3 replays, preimages of
 * version 2 are canonical, and boot events, where the log holds them, replay to RTMR 0..2.
 * @throws AttestationError `event-log`, `mismatch`
 */
export function checkEventLogs(
  eventLog: readonly TdxEvent[],
  runtimeEvents: readonly RuntimeEvent[],
  rtmrs: readonly Uint8Array[],
  checks: CheckRecorder,
): void {
  const stray = eventLog.find((event) => event.imr > 3);
  checks.require(stray === undefined, {
    id: 'tdx.event-registers',
    reference: REFERENCE,
    code: 'event-log',
    message: 'The event log names a register that a TD does not have',
    expected: 'imr 0 to 3',
    found: () => `imr ${stray?.imr}`,
  });
  const runtime = eventLog.filter((event) => event.imr === 3);
  const difference = runtime.length === 0 ? undefined : firstDifference(runtime, runtimeEvents);
  checks.require(difference === undefined, {
    id: 'tdx.event-log',
    reference: REFERENCE,
    code: 'event-log',
    message: 'The event log and the runtime events disagree',
    expected: 'the same runtime events',
    found: difference,
  });
  const badPreimage = runtime.find((event) => !hasGoodPreimage(event));
  checks.require(badPreimage === undefined, {
    id: 'tdx.event-preimage',
    reference: 'docs/protocol/event-logs.md section 3.1',
    code: 'event-log',
    message: 'A preimage in the event log is not the canonical one',
    found: badPreimage?.event,
  });
  for (const imr of [0, 1, 2]) {
    const events = eventLog.filter((event) => event.imr === imr);
    // A certificate carries of RTMR0 only the ACPI events (docs/protocol/evidence.md section 7.1): nothing to replay.
    if (events.every(isAcpiData)) continue;
    const replayed = events.some((event) => event.digest.length !== DIGEST_SIZE)
      ? undefined
      : replayDigests(
          events.map((event) => event.digest),
          'sha384',
        );
    checks.require(replayed !== undefined && equalBytes(replayed, rtmrs[imr]!), {
      id: `tdx.rtmr${imr}`,
      reference: 'docs/protocol/event-logs.md section 2.3',
      code: 'mismatch',
      message: `RTMR${imr} is not the replay of the event log`,
      expected: () => toHex(rtmrs[imr]!),
      found: () => (replayed ? toHex(replayed) : 'an event without a SHA-384 digest'),
    });
  }
}

function firstDifference(
  logged: readonly TdxEvent[],
  runtimeEvents: readonly RuntimeEvent[],
): string | undefined {
  if (logged.length !== runtimeEvents.length) {
    return `${logged.length} events in the log, ${runtimeEvents.length} runtime events`;
  }
  const index = logged.findIndex((event, i) => !isSameEvent(event, runtimeEvents[i]!));
  return index < 0 ? undefined : `event ${index} (${logged[index]!.event})`;
}

function isSameEvent(logged: TdxEvent, runtime: RuntimeEvent): boolean {
  if (logged.eventType !== RUNTIME_EVENT_TYPE) return false;
  if (logged.event !== runtime.event || logged.version !== runtime.version) return false;
  if (!equalBytes(logged.eventPayload, runtime.payload)) return false;
  // The stored digest is never used; where it is there, it must be true.
  return logged.digest.length === 0 || equalBytes(logged.digest, runtimeEventDigest(runtime, 'sha384'));
}

function hasGoodPreimage(event: TdxEvent): boolean {
  // Version 2 events carry their preimage, others none (docs/protocol/event-logs.md section 3.1).
  if (event.version !== 2) return event.preimage === undefined;
  return (
    event.preimage === hexOf(runtimeEventPreimage({ ...event, payload: event.eventPayload, version: 2 }))
  );
}

function hexOf(text: string): string {
  return toHex(utf8(text));
}

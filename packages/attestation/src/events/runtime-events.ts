import { toHex, utf8 } from '@dstack-cloud/encoding';
import { defaultCrypto } from '#crypto';
import type { RuntimeEvent } from '../attestation.ts';
import { systemPayloads } from './system-events.ts';

/** Type of every runtime event. */
export const RUNTIME_EVENT_TYPE = 0x08000001;

const SIZES = { sha384: 48, sha256: 32 } as const;
// Type as 4 bytes LE, then a colon (docs/protocol/event-logs.md section 3.1).
const PREFIX = Uint8Array.of(0x01, 0x00, 0x00, 0x08, 0x3a);
const COLON = Uint8Array.of(0x3a);

/** Digest that extends RTMR3 (sha384) or PCR 14 (sha256; sha384 on NitroTPM). */
export function runtimeEventDigest(event: RuntimeEvent, algorithm: 'sha384' | 'sha256'): Uint8Array {
  if (event.version === 2) return defaultCrypto.hash(algorithm, utf8(runtimeEventPreimage(event)));
  return defaultCrypto.hash(algorithm, PREFIX, utf8(event.event), COLON, event.payload);
}

/** What a version 2 event hashes: RFC 8785 JSON of name, payload and type. */
export function runtimeEventPreimage(event: RuntimeEvent): string {
  // JSON.stringify escapes strings as RFC 8785 section 3.2.2.2 demands.
  return `{"name":${JSON.stringify(event.event)},"payload":"${toHex(event.payload)}","type":${RUNTIME_EVENT_TYPE}}`;
}

/** Replays events from a zero register; with `until`, stops after the first event of that name. */
export function replayRuntimeEvents(
  events: readonly RuntimeEvent[],
  algorithm: 'sha384' | 'sha256',
  options: { until?: string } = {},
): Uint8Array {
  let register: Uint8Array = new Uint8Array(SIZES[algorithm]);
  for (const event of events) {
    register = defaultCrypto.hash(algorithm, register, runtimeEventDigest(event, algorithm));
    if (event.event === options.until) break;
  }
  return register;
}

/** Payload of the first event of that name before `system-ready`; undefined when there is none. */
export function findEvent(events: readonly RuntimeEvent[], name: string): Uint8Array | undefined {
  return systemPayloads(events, name)[0];
}

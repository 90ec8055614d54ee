import type { RuntimeEvent } from '../attestation.ts';
import { EVENT } from './event-names.ts';

const NONE = new Uint8Array(0);

/** What a guest measures of itself before it asks for keys. */
export interface MeasuredIdentity {
  /** 20 bytes. */
  readonly appId: Uint8Array;
  readonly composeHash: Uint8Array;
  /** SHA-256 of each script, in their order. */
  readonly initScriptHashes: readonly Uint8Array[];
  /** 20 bytes, or empty. */
  readonly instanceId: Uint8Array;
}

/** The events up to the freeze point `boot-mr-done` (docs/protocol/event-logs.md section 4.1). */
export function identityEvents(identity: MeasuredIdentity, version: 1 | 2 = 1): RuntimeEvent[] {
  const { appId, composeHash, initScriptHashes, instanceId } = identity;
  const events: [string, Uint8Array][] = [
    [EVENT.systemPreparing, NONE],
    [EVENT.appId, appId],
    [EVENT.composeHash, composeHash],
    ...initScriptHashes.map((hash): [string, Uint8Array] => [EVENT.initScriptHash, hash]),
    [EVENT.instanceId, instanceId],
    [EVENT.bootMrDone, NONE],
  ];
  return events.map(([event, payload]) => (version === 2 ? { event, payload, version } : { event, payload }));
}

import { createHash } from 'node:crypto';
import type { AppCompose, ComposeHash } from '@dstack-cloud/app';
import { identityEvents } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { utf8 } from '@dstack-cloud/encoding';
import { GuestError } from '../errors.ts';
import type { Identities } from './identities.ts';

const NONE = new Uint8Array(0);

/** Writes runtime events in the order of the calls; the log and the register move together. */
export type Measure = (event: string, payload?: Uint8Array) => Promise<void>;

/** Measurer over a device, for one event log version. */
export function measurer(device: EvidenceDevice, version: 1 | 2): Measure {
  return async (event, payload = NONE) => {
    try {
      await device.emitEvent(version === 2 ? { event, payload, version } : { event, payload });
    } catch (cause) {
      throw new GuestError('evidence-failed', `Failed to measure ${event}`, { cause });
    }
  };
}

/**
 * The events before keys are asked for, up to the freeze point `boot-mr-done` (docs/protocol/event-logs.md section
 * 4.1).
 */
export async function measureIdentities(
  measure: Measure,
  compose: AppCompose,
  hash: ComposeHash,
  ids: Identities,
): Promise<void> {
  const initScriptHashes = compose.initScripts.map(
    (script) => new Uint8Array(createHash('sha256').update(utf8(script)).digest()),
  );
  const { appId, instanceId } = ids;
  for (const { event, payload } of identityEvents({ appId, composeHash: hash, initScriptHashes, instanceId }))
    await measure(event, payload);
}

import { createHash } from 'node:crypto';
import { concatBytes, equalBytes, isZero, toHex } from '@dstack-cloud/encoding';
import type { RuntimeEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { runtimeEventDigest } from '../events/runtime-events.ts';
import { parseCoseSign1 } from '../nitro/cose-sign1.ts';
import { parseNitroDocument } from '../nitro/document.ts';
import type { EvidenceDevice } from './evidence-device.ts';
import { Nsm } from './nsm/nsm.ts';

const IMAGE_PCRS = [0, 1, 2];
const APP_ID = 'app-id';
/** The first PCR that an enclave may extend itself. */
const APP_ID_PCR = 16;

export interface NitroDeviceOptions {
  /** `/dev/nsm`, or `unix:PATH` of a stand-in. */
  readonly nsm: string;
  readonly timeoutMs?: number;
  /**
   * Extends PCR 16 with the app-id event and locks it, so that the document says which application asked; without it
   * nothing measures the app id. Default true.
   */
  readonly bindAppId?: boolean;
}

/** The Nitro enclave that this program runs in. It has no runtime register: an app id is all that it can say. */
export function openNitroDevice(options: NitroDeviceOptions): EvidenceDevice {
  const nsm = new Nsm(options.nsm, options.timeoutMs);
  const events: RuntimeEvent[] = [];
  return {
    mode: 'dstack-nitro-enclave',
    async attest(reportData, { nonce } = {}) {
      const document = await nsm.attestation({ userData: reportData, ...(nonce && { nonce }) });
      const { userData, pcrs } = parseNitroDocument(parseCoseSign1(document).payload, 'nsm');
      if (!userData || !equalBytes(userData, reportData)) {
        throw new AttestationError('device', 'The NSM signed other user data');
      }
      return {
        quote: { mode: 'dstack-nitro-enclave', nsmQuote: document },
        runtimeEvents: [...events],
        reportData: reportData.slice(),
        config: JSON.stringify({ os_image_hash: toHex(nitroImageHash(pcrs)) }),
      };
    },
    async emitEvent(event) {
      if (event.event !== APP_ID || events.length > 0) {
        throw new AttestationError('unsupported', 'A Nitro enclave records one app-id event and no other');
      }
      if (options.bindAppId ?? true) await bindAppId(nsm, event);
      events.push(event);
    },
    events: async () => [...events],
  };
}

/** A PCR that is locked already is kept when it says the same: an enclave's program may be restarted. */
async function bindAppId(nsm: Nsm, event: RuntimeEvent): Promise<void> {
  const digest = runtimeEventDigest(event, 'sha384');
  const bound = createHash('sha384').update(new Uint8Array(48)).update(digest).digest();
  const before = await nsm.describePcr(APP_ID_PCR);
  if (equalBytes(before.value, new Uint8Array(bound))) return;
  if (before.locked || !isZero(before.value)) {
    throw new AttestationError('event-log', 'PCR 16 of this enclave holds another app id', {
      expected: bound.toString('hex'),
      found: toHex(before.value),
    });
  }
  await nsm.extendPcr(APP_ID_PCR, digest);
  await nsm.lockPcr(APP_ID_PCR);
}

/**
 * SHA-256 over the RAW bytes of PCR 0, 1 and 2; 32 zero bytes for a debug enclave (docs/protocol/verification.md
 * section 8.3).
 */
export function nitroImageHash(pcrs: ReadonlyMap<number, Uint8Array>): Uint8Array {
  const values = IMAGE_PCRS.map((index) => pcrs.get(index));
  if (values.some((value) => value === undefined)) {
    throw new AttestationError('device', 'The NSM document lacks PCR 0, 1 or 2');
  }
  const joined = concatBytes(...(values as Uint8Array[]));
  if (isZero(joined)) return new Uint8Array(32);
  return new Uint8Array(createHash('sha256').update(joined).digest());
}

import { createHash } from 'node:crypto';
import {
  type Attestation,
  EVENT,
  findEvent,
  parseCoseSign1,
  parseNitroDocument,
} from '@dstack-cloud/attestation';
import { nitroImageHash } from '@dstack-cloud/attestation/attester';
import { concatBytes, toHex } from '@dstack-cloud/encoding';
import type { LocalFacts } from './local-facts.ts';
import { UNVERIFIED_DEVICE_ID } from './measurements.ts';

const NONE = new Uint8Array(0);
/** Kernel, boot ramdisk and application; signer of the image; the app id that the enclave bound to itself. */
const SHOWN_PCRS = [0, 1, 2, 8, 16];

/** What a Nitro enclave says of itself: its image is its application, so both hashes are one (docs/protocol/verification.md section 8.3). */
export function enclaveFacts({ runtimeEvents }: Attestation, document: Uint8Array): LocalFacts {
  const { pcrs } = parseNitroDocument(parseCoseSign1(document).payload, 'nsm');
  const image = nitroImageHash(pcrs);
  const registers = [0, 1, 2].map((index) => pcrs.get(index) ?? NONE);
  const system = new Uint8Array(
    createHash('sha256')
      .update(concatBytes(...registers))
      .digest(),
  );
  const tcbInfo = {
    // Clients of the original read these members; an enclave has no such registers.
    ...{ mrtd: null, rtmr0: null, rtmr1: null, rtmr2: null, rtmr3: null },
    ...Object.fromEntries(SHOWN_PCRS.map((index) => [`pcr${index}`, toHex(pcrs.get(index) ?? NONE)])),
    mr_aggregated: toHex(system),
    os_image_hash: toHex(image),
    compose_hash: toHex(image),
    device_id: toHex(UNVERIFIED_DEVICE_ID),
    event_log: [],
    app_compose: '',
  };
  return {
    appInfo: {
      appId: findEvent(runtimeEvents, EVENT.appId) ?? NONE,
      composeHash: image,
      instanceId: NONE,
      deviceId: UNVERIFIED_DEVICE_ID,
      mrSystem: system,
      mrAggregated: system,
      osImageHash: image,
      keyProviderInfo: NONE,
    },
    keyProviderInfo: '',
    tcbInfo: JSON.stringify(tcbInfo, null, 2),
  };
}

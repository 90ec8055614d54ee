import { createHash, randomBytes } from 'node:crypto';

const SERIAL_BYTES = 20;
/** Uncompressed P-256 point at the end of its SubjectPublicKeyInfo. */
const POINT_BYTES = 65;

/**
 * Serial number of a CA certificate: SHA-256 of the public point, 20 bytes, top bit cleared (docs/protocol/ra-tls.md
 * section 2.1).
 */
export function serialOfKey(spki: Uint8Array): Uint8Array {
  const digest = createHash('sha256').update(spki.subarray(-POINT_BYTES)).digest();
  const serial = new Uint8Array(digest.subarray(0, SERIAL_BYTES));
  serial[0]! &= 0x7f;
  return serial;
}

/** Random serial number of a leaf: 158 random bits, always 20 bytes long and positive. */
export function randomSerial(): Uint8Array {
  const serial = new Uint8Array(randomBytes(SERIAL_BYTES));
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  return serial;
}

/**
 * Subject key identifier: the first 20 bytes of SHA-256 of the SubjectPublicKeyInfo (docs/protocol/ra-tls.md section
 * 2.1).
 */
export function subjectKeyIdentifier(spki: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(spki).digest().subarray(0, SERIAL_BYTES));
}

import { seededBytes } from './seeded-key.ts';

/** A positive serial number of 16 bytes, the same for the same seed and label. */
export function seededSerial(seed: Uint8Array, label: string): Uint8Array {
  const serial = seededBytes(seed, `serial:${label}`, 16).slice();
  // Positive and without a leading zero, so that the INTEGER has these contents.
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  return serial;
}

import { crc32 } from 'node:zlib';

const BITS = 32;
/** The CRC-32 of zlib, bits reflected. */
const POLYNOMIAL = 0xedb88320;

/** CRC-32 of bytes, going on from an earlier value. */
export function updateCrc(crc: number, bytes: Uint8Array): number {
  return crc32(bytes, crc);
}

/**
 * The CRC of A ‖ B from those of A and B and the length of B: the header, which comes first, is known only after the rest
 * was written. Appending n zero bits is a linear map over GF(2), here a matrix that is squared for each bit of n.
 */
export function joinCrc(first: number, second: number, secondLength: number): number {
  let shift = oneBit();
  let crc = first;
  let bits = BigInt(secondLength) * 8n;
  while (bits > 0n) {
    if ((bits & 1n) === 1n) crc = times(shift, crc);
    shift = shift.map((column) => times(shift, column));
    bits >>= 1n;
  }
  return (crc ^ second) >>> 0;
}

/** The map of one zero bit: shift right, and fold the bit that falls out. */
function oneBit(): number[] {
  return Array.from({ length: BITS }, (_, bit) => (bit === 0 ? POLYNOMIAL : 2 ** (bit - 1)));
}

function times(matrix: readonly number[], vector: number): number {
  let product = 0;
  for (let bit = 0; bit < BITS; bit++) if ((vector >>> bit) & 1) product ^= matrix[bit]!;
  return product >>> 0;
}

/** The polynomial of gzip's checksum (RFC 1952 section 8), bits reversed. */
const POLYNOMIAL = 0xedb8_8320;

/** Columns of a matrix over bits: what each bit of a checksum becomes. */
type Matrix = readonly number[];

/**
 * What so many zero bytes make of any checksum. The step of one byte is linear in the checksum's register, so that many
 * steps are one matrix, made by squaring.
 */
export function zeroRun(count: number): (crc: number) => number {
  let power: Matrix = Array.from({ length: 32 }, (_, bit) => oneZeroByte((1 << bit) >>> 0));
  let all: Matrix = Array.from({ length: 32 }, (_, bit) => (1 << bit) >>> 0);
  for (let rest = count; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) all = all.map((column) => apply(power, column));
    const square = power;
    power = power.map((column) => apply(square, column));
  }
  // The register is the complement of the checksum.
  return (crc) => ~apply(all, ~crc >>> 0) >>> 0;
}

function oneZeroByte(register: number): number {
  let value = register;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  return value >>> 0;
}

function apply(matrix: Matrix, vector: number): number {
  let sum = 0;
  for (let bit = 0; bit < 32; bit += 1) if ((vector >>> bit) & 1) sum ^= matrix[bit] ?? 0;
  return sum >>> 0;
}

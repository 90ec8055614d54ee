/** Subkeys (18 words) and the four S-boxes (4 x 256 words) of Blowfish. */
export type BlowfishState = { readonly p: Uint32Array; readonly s: Uint32Array };

const WORDS = 18 + 1024;
let initial: Uint32Array | undefined;

/** The state before any key: the hexadecimal digits of pi after the point (Schneier, 1994). */
export function initialState(): BlowfishState {
  initial ??= fractionOfPi(WORDS);
  return { p: initial.slice(0, 18), s: initial.slice(18) };
}

/** The first words of pi's fraction, by Machin's formula: pi/4 = 4 arctan(1/5) - arctan(1/239). */
function fractionOfPi(words: number): Uint32Array {
  const guard = 64n;
  const bits = BigInt(words * 32) + guard;
  const one = 1n << bits;
  const pi = 4n * (4n * arctanInverse(5n, one) - arctanInverse(239n, one));
  let fraction = (pi & (one - 1n)) >> guard;
  const result = new Uint32Array(words);
  for (let index = words - 1; index >= 0; index--) {
    result[index] = Number(fraction & 0xffff_ffffn);
    fraction >>= 32n;
  }
  return result;
}

/** arctan(1/x) as a fixed-point number: 1/x - 1/(3x^3) + 1/(5x^5) - ... */
function arctanInverse(x: bigint, one: bigint): bigint {
  const square = x * x;
  let power = one / x;
  let sum = power;
  for (let n = 3n, sign = -1n; power > 0n; n += 2n, sign = -sign) {
    power /= square;
    sum += (sign * power) / n;
  }
  return sum;
}

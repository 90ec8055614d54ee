/**
 * XSalsa20-Poly1305, the secret-key encryption of NaCl (Bernstein, "Cryptography in NaCl", sections 7 to 9), which
 * node:crypto lacks. For single short messages: it does not hide from another program of the same machine how long the
 * arithmetic of the tag takes.
 */
import { concatBytes, equalConstantTime } from '@dstack-cloud/encoding';
import { expectLength, KeysError } from './errors.ts';

const KEY = 32;
const NONCE = 24;
const TAG = 16;
const BLOCK = 64;
const MAX_MESSAGE = 64 * 1024;
/** "expand 32-byte k" */
const SIGMA = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574] as const;
const P = (1n << 130n) - 5n;
const CLAMP = 0x0ffffffc0ffffffc0ffffffc0fffffffn;

/** Tag, then ciphertext. */
export function secretBox(message: Uint8Array, nonce: Uint8Array, key: Uint8Array): Uint8Array {
  const { stream, tagKey } = streamFor(message.length, nonce, key);
  const encrypted = message.map((byte, at) => byte ^ stream[at]!);
  return concatBytes(poly1305(encrypted, tagKey), encrypted);
}

/** @throws KeysError `decryption-failed` */
export function openSecretBox(box: Uint8Array, nonce: Uint8Array, key: Uint8Array): Uint8Array {
  if (box.length < TAG) throw new KeysError('decryption-failed', 'A box is at least 16 bytes');
  const encrypted = box.slice(TAG);
  const { stream, tagKey } = streamFor(encrypted.length, nonce, key);
  if (!equalConstantTime(poly1305(encrypted, tagKey), box.subarray(0, TAG)))
    throw new KeysError('decryption-failed', 'The box was not made for this key, or was changed');
  return encrypted.map((byte, at) => byte ^ stream[at]!);
}

/** HSalsa20: a key for one nonce or one pair of keys. */
export function hsalsa20(key: Uint8Array, input: Uint8Array): Uint8Array {
  const state = salsaRounds(initial(key, input));
  const out = new DataView(new ArrayBuffer(KEY));
  for (const [at, word] of [0, 5, 10, 15, 6, 7, 8, 9].entries()) out.setUint32(4 * at, state[word]!, true);
  return new Uint8Array(out.buffer);
}

/** The first 32 bytes of the stream are the key of the tag. */
function streamFor(
  length: number,
  nonce: Uint8Array,
  key: Uint8Array,
): { stream: Uint8Array; tagKey: Uint8Array } {
  expectLength('XSalsa20 key', key, KEY);
  expectLength('XSalsa20 nonce', nonce, NONCE);
  if (length > MAX_MESSAGE) throw new KeysError('invalid-length', `A box holds at most ${MAX_MESSAGE} bytes`);
  const subkey = hsalsa20(key, nonce.subarray(0, 16));
  const input = new Uint8Array(16);
  input.set(nonce.subarray(16));
  const blocks = Math.ceil((KEY + length) / BLOCK);
  const bytes = new Uint8Array(blocks * BLOCK);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < blocks; block++) {
    new DataView(input.buffer).setUint32(8, block, true);
    const start = initial(subkey, input);
    for (const [at, word] of salsaRounds(start).entries())
      view.setUint32(block * BLOCK + 4 * at, (word + start[at]!) >>> 0, true);
  }
  return { tagKey: bytes.subarray(0, KEY), stream: bytes.subarray(KEY) };
}

function initial(key: Uint8Array, input: Uint8Array): Uint32Array {
  const k = words(key);
  const n = words(input);
  const [c0, c1, c2, c3] = SIGMA;
  return Uint32Array.of(
    ...[c0, k[0]!, k[1]!, k[2]!, k[3]!, c1, n[0]!, n[1]!],
    ...[n[2]!, n[3]!, c2, k[4]!, k[5]!, k[6]!, k[7]!, c3],
  );
}

function words(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 4 }, (_, at) => view.getUint32(4 * at, true));
}

const COLUMNS = [
  [0, 4, 8, 12],
  [5, 9, 13, 1],
  [10, 14, 2, 6],
  [15, 3, 7, 11],
] as const;
const ROWS = [
  [0, 1, 2, 3],
  [5, 6, 7, 4],
  [10, 11, 8, 9],
  [15, 12, 13, 14],
] as const;

/** Salsa20's 20 rounds, without the addition of the start. */
function salsaRounds(start: Uint32Array): Uint32Array {
  const x = start.slice();
  for (let round = 0; round < 10; round++) {
    for (const lanes of [COLUMNS, ROWS]) {
      for (const [a, b, c, d] of lanes) {
        x[b]! ^= rotate(x[a]! + x[d]!, 7);
        x[c]! ^= rotate(x[b]! + x[a]!, 9);
        x[d]! ^= rotate(x[c]! + x[b]!, 13);
        x[a]! ^= rotate(x[d]! + x[c]!, 18);
      }
    }
  }
  return x;
}

function rotate(value: number, bits: number): number {
  return (value << bits) | ((value >>> 0) >>> (32 - bits));
}

/** RFC 8439 section 2.5. */
function poly1305(message: Uint8Array, key: Uint8Array): Uint8Array {
  const r = little(key.subarray(0, 16)) & CLAMP;
  let sum = 0n;
  for (let at = 0; at < message.length; at += 16) {
    const part = message.subarray(at, at + 16);
    sum = ((sum + little(part) + (1n << BigInt(8 * part.length))) * r) % P;
  }
  let tag = sum + little(key.subarray(16));
  return Uint8Array.from({ length: TAG }, () => {
    const byte = Number(tag & 0xffn);
    tag >>= 8n;
    return byte;
  });
}

function little(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

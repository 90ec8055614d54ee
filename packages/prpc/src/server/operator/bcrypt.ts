import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { equalConstantTime } from '@dstack-cloud/encoding';
import { type BlowfishState, initialState } from './blowfish-tables.ts';

/** Alphabet of bcrypt's base64 (OpenBSD, `bcrypt.c`). */
const ALPHABET = './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
/** Higher costs take minutes here. */
const MAX_COST = 15;
const ROUNDS_BETWEEN_YIELDS = 64;

/**
 * Whether a password has this bcrypt hash: `$2b$`, cost, 16 bytes of salt, 23 bytes of digest (Provos and Mazières,
 * "A Future-Adaptable Password Scheme", 1999). Costs above 15 never match.
 */
export async function bcryptMatches(password: string, hash: string): Promise<boolean> {
  const match = /^\$2[aby]\$(\d\d)\$([./A-Za-z0-9]{22})([./A-Za-z0-9]{31})$/.exec(hash);
  const cost = Number(match?.[1]);
  if (match === null || cost < 4 || cost > MAX_COST) return false;
  const digest = await bcryptDigest(Buffer.from(password, 'utf8'), decode(match[2]!, 16), cost);
  return equalConstantTime(digest.subarray(0, 23), decode(match[3]!, 23));
}

async function bcryptDigest(password: Uint8Array, salt: Uint8Array, cost: number): Promise<Uint8Array> {
  // The key is the first 72 bytes of the password with its closing zero.
  const key = new Uint8Array(Math.min(password.length + 1, 72));
  key.set(password.subarray(0, key.length));
  const state = initialState();
  expandKey(state, key, salt);
  for (let round = 0; round < 2 ** cost; round++) {
    expandKey(state, key);
    expandKey(state, salt);
    if (round % ROUNDS_BETWEEN_YIELDS === 0) await yieldToOthers();
  }
  const text = new DataView(new ArrayBuffer(24));
  new Uint8Array(text.buffer).set(Buffer.from('OrpheanBeholderScryDoubt', 'latin1'));
  const pair = new Uint32Array(2);
  for (let block = 0; block < 24; block += 8) {
    pair[0] = text.getUint32(block);
    pair[1] = text.getUint32(block + 4);
    for (let times = 0; times < 64; times++) encipher(state, pair);
    text.setUint32(block, pair[0]!);
    text.setUint32(block + 4, pair[1]!);
  }
  return new Uint8Array(text.buffer);
}

function expandKey(state: BlowfishState, key: Uint8Array, salt?: Uint8Array): void {
  const { p, s } = state;
  const nextKeyWord = wordsOf(key);
  for (let i = 0; i < 18; i++) p[i] = p[i]! ^ nextKeyWord();
  const nextSaltWord = salt === undefined ? () => 0 : wordsOf(salt);
  const pair = new Uint32Array(2);
  for (const table of [p, s]) {
    for (let i = 0; i < table.length; i += 2) {
      pair[0] = pair[0]! ^ nextSaltWord();
      pair[1] = pair[1]! ^ nextSaltWord();
      encipher(state, pair);
      table[i] = pair[0]!;
      table[i + 1] = pair[1]!;
    }
  }
}

/** Big-endian words of a byte string read round and round. */
function wordsOf(bytes: Uint8Array): () => number {
  let offset = 0;
  return () => {
    let word = 0;
    for (let i = 0; i < 4; i++) {
      word = (word << 8) | bytes[offset]!;
      offset = (offset + 1) % bytes.length;
    }
    return word >>> 0;
  };
}

/** One block of Blowfish, 16 rounds (Schneier, 1994). */
function encipher({ p, s }: BlowfishState, pair: Uint32Array): void {
  let left = pair[0]! ^ p[0]!;
  let right = pair[1]!;
  for (let i = 1; i <= 16; i += 2) {
    right ^= mix(s, left) ^ p[i]!;
    left ^= mix(s, right) ^ p[i + 1]!;
  }
  pair[0] = right ^ p[17]!;
  pair[1] = left;
}

function mix(s: Uint32Array, x: number): number {
  const sum = s[x >>> 24]! + s[256 + ((x >>> 16) & 0xff)]!;
  return ((sum ^ s[512 + ((x >>> 8) & 0xff)]!) + s[768 + (x & 0xff)]!) | 0;
}

function decode(text: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let bits = 0;
  let value = 0;
  let offset = 0;
  for (const character of text) {
    value = ((value << 6) | ALPHABET.indexOf(character)) & 0xffff;
    bits += 6;
    if (bits < 8 || offset >= length) continue;
    bits -= 8;
    bytes[offset++] = (value >> bits) & 0xff;
  }
  return bytes;
}

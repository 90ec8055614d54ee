/** A seeded generator (mulberry32): the same seed gives the same mutants on every machine. */
export function seededRandom(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

type Mutation = (bytes: Uint8Array, random: (limit: number) => number) => Uint8Array;

const range = (bytes: Uint8Array, random: (limit: number) => number, most: number) => {
  const start = random(bytes.length);
  return [start, Math.min(bytes.length, start + 1 + random(most))] as const;
};

const splice = (bytes: Uint8Array, start: number, end: number, put: Uint8Array): Uint8Array => {
  const out = new Uint8Array(start + put.length + bytes.length - end);
  out.set(bytes.subarray(0, start));
  out.set(put, start);
  out.set(bytes.subarray(end), start + put.length);
  return out;
};

const MUTATIONS: readonly Mutation[] = [
  function flipBit(bytes, random) {
    const out = bytes.slice();
    out[random(out.length)]! ^= 1 << random(8);
    return out;
  },
  function setByte(bytes, random) {
    const out = bytes.slice();
    out[random(out.length)] = [0, 1, 0x7f, 0x80, 0xff, random(256)][random(6)]!;
    return out;
  },
  function truncate(bytes, random) {
    return bytes.slice(0, random(bytes.length));
  },
  function extend(bytes, random) {
    return splice(bytes, bytes.length, bytes.length, new Uint8Array(1 + random(64)).fill(random(256)));
  },
  function remove(bytes, random) {
    const [start, end] = range(bytes, random, 64);
    return splice(bytes, start, end, new Uint8Array());
  },
  function repeat(bytes, random) {
    const [start, end] = range(bytes, random, 128);
    return splice(bytes, end, end, bytes.subarray(start, end));
  },
  function swap(bytes, random) {
    const out = bytes.slice();
    const length = 1 + random(64);
    const [a, b] = [random(out.length - length), random(out.length - length)];
    const first = bytes.slice(a, a + length);
    out.set(bytes.subarray(b, b + length), a);
    out.set(first, b);
    return out;
  },
];

/** One mutant: flipped, set, cut, extended, shortened, repeated or swapped somewhere. */
export function mutate(bytes: Uint8Array, random: (limit: number) => number): Uint8Array {
  return MUTATIONS[random(MUTATIONS.length)]!(bytes, random);
}

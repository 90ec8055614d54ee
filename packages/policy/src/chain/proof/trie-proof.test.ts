/** Proofs made by another implementation hold; anything that differs from them in a byte, a node or a key does not. */
import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { createMerkleProof, createMPT, type MerklePatriciaTrie } from '@ethereumjs/mpt';
import { RLP } from '@ethereumjs/rlp';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { provenValue } from './trie-proof.ts';

type Entry = readonly [key: Uint8Array, value: Uint8Array];
type Trie = { readonly root: Uint8Array; proof(key: Uint8Array): Promise<Uint8Array[]> };

async function trieOf(entries: readonly Entry[]): Promise<Trie> {
  const trie: MerklePatriciaTrie = await createMPT({});
  for (const [key, value] of entries) await trie.put(key, value);
  return { root: trie.root(), proof: (key) => createMerkleProof(trie, key) };
}

/** Hashed keys as in Ethereum, or keys that share all but a few nibbles, which makes small nodes and extensions. */
const hashedKey = fc.nat(60).map((n) => keccak256(Uint8Array.of(n)));
const closeKey = fc.tuple(fc.nat(3), fc.nat(15), fc.nat(255)).map(([place, high, low]) => {
  const key = new Uint8Array(32).fill(0x5a);
  key[[0, 15, 30, 31][place]!] = high * 16 + (low & 15);
  key[31] = low;
  return key;
});
const value = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 3 }),
  fc.uint8Array({ minLength: 28, maxLength: 40 }),
);
const entriesOf = (key: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Entry[]> =>
  fc.uniqueArray(fc.tuple(key, value), { maxLength: 40, selector: ([one]) => toHex(one) });
const world = fc.constantFrom(hashedKey, closeKey).chain((key) => fc.tuple(entriesOf(key), key));

const entryOf = (entries: readonly Entry[], key: Uint8Array): Uint8Array | undefined =>
  entries.find(([one]) => equalBytes(one, key))?.[1];

/** The proof's own claim, or undefined when it is refused. */
function claim(
  root: Uint8Array,
  key: Uint8Array,
  nodes: readonly Uint8Array[],
): { value: unknown } | undefined {
  try {
    return { value: provenValue(root, key, nodes) };
  } catch (error) {
    expect(error).toMatchObject({ name: 'PolicyError', code: 'chain-proof' });
    return undefined;
  }
}

describe('provenValue', () => {
  test('agrees with another implementation on what is in a trie and what is not', async () => {
    await fc.assert(
      fc.asyncProperty(world, async ([entries, other]) => {
        const trie = await trieOf(entries);
        for (const key of [...entries.map(([one]) => one), other]) {
          const found = provenValue(trie.root, key, await trie.proof(key));
          expect(found && toHex(found)).toEqual(
            entryOf(entries, key) && toHex(entryOf(entries, key) as Uint8Array),
          );
        }
      }),
      { numRuns: 150 },
    );
  });

  test('a proof says nothing else about another key, another root, or with nodes changed', async () => {
    await fc.assert(
      fc.asyncProperty(
        world,
        world,
        fc.nat(),
        fc.nat(7),
        async ([entries, key], [others, stranger], at, bit) => {
          const trie = await trieOf(entries);
          const nodes = await trie.proof(key);
          const isTrue = (asked: Uint8Array, made: { value: unknown } | undefined): boolean =>
            made === undefined ||
            toHex((made.value ?? []) as Uint8Array) === toHex(entryOf(entries, asked) ?? new Uint8Array());
          // Another key: refused, or the truth, when the same nodes show that too.
          expect(isTrue(stranger, claim(trie.root, stranger, nodes))).toBe(true);
          const elsewhere = await trieOf(others);
          if (!equalBytes(elsewhere.root, trie.root))
            expect(claim(elsewhere.root, key, nodes)).toBeUndefined();
          if (nodes.length === 0) return;

          const index = at % nodes.length;
          const changed = nodes.map((node) => node.slice());
          const node = changed[index]!;
          node[at % node.length]! ^= 1 << bit;
          expect(claim(trie.root, key, changed)).toBeUndefined();
          // Without a node there is no proof, unless its parent has it inside.
          const without = claim(trie.root, key, nodes.toSpliced(index, 1));
          if (nodes[index]!.length >= 32) expect(without).toBeUndefined();
          else expect(isTrue(key, without)).toBe(true);
          expect(claim(trie.root, key, [...nodes, node])).toBeUndefined();
          if (nodes.length > 1) expect(claim(trie.root, key, nodes.toReversed())).toBeUndefined();
        },
      ),
      { numRuns: 150 },
    );
  });

  describe('one trie, whole', () => {
    const entries: Entry[] = Array.from({ length: 40 }, (_, n) => [
      keccak256(Uint8Array.of(n)),
      new Uint8Array(33).fill(n),
    ]);
    let trie: Trie;
    beforeAll(async () => {
      trie = await trieOf(entries);
    });

    test('every other value of every byte of every node is refused', async () => {
      for (const key of [entries[7]![0], keccak256(Uint8Array.of(99))]) {
        const nodes = await trie.proof(key);
        for (const [index, node] of nodes.entries()) {
          for (let at = 0; at < node.length; at++) {
            for (const flip of [0x01, 0x80, 0xff]) {
              const changed = node.slice();
              changed[at]! ^= flip;
              expect(claim(trie.root, key, nodes.with(index, changed))).toBeUndefined();
            }
          }
        }
      }
    });

    test('the proof that one key is absent does not serve for one that is present', async () => {
      const absent = await trie.proof(keccak256(Uint8Array.of(99)));
      for (const [key] of entries) {
        const own = await trie.proof(key);
        expect(claim(trie.root, key, absent)).toBeUndefined();
        for (let length = 0; length < own.length; length++) {
          expect(claim(trie.root, key, own.slice(0, length))).toBeUndefined();
        }
      }
    });
  });

  /** Roots of nodes that no trie of 32-byte keys has. */
  const nibbles62 = new Uint8Array(31).fill(0x11);
  const leaf = RLP.encode([Uint8Array.of(0x20, ...nibbles62), Uint8Array.of(1)]);
  const hash = (bytes: Uint8Array): Uint8Array => keccak256(bytes);
  const branch = (place: number, child: Uint8Array | unknown[], own = new Uint8Array()): Uint8Array =>
    RLP.encode([
      ...Array.from({ length: 16 }, (_, n) => (n === place ? child : new Uint8Array())),
      own,
    ] as never);
  const key = new Uint8Array(32).fill(0x11);
  test.each<[string, Uint8Array[], string]>([
    ['a leaf whose path ends early', [leaf], 'a path does not fit'],
    [
      'a leaf whose path is too long',
      [RLP.encode([new Uint8Array(34).fill(0x11, 1).fill(0x20, 0, 1), Uint8Array.of(1)])],
      'a path does not fit',
    ],
    [
      'an extension that takes nothing',
      [RLP.encode([Uint8Array.of(0), hash(leaf)]), leaf],
      'a path does not fit',
    ],
    [
      'an extension over the whole key',
      [RLP.encode([Uint8Array.of(0, ...key), hash(leaf)]), leaf],
      'a path does not fit',
    ],
    [
      'a flag that does not exist',
      [RLP.encode([Uint8Array.of(0x40, ...key), Uint8Array.of(1)])],
      'a path has no such flag',
    ],
    ['no path at all', [RLP.encode([new Uint8Array(), Uint8Array.of(1)])], 'a path has no such flag'],
    [
      'padding that says something',
      [RLP.encode([Uint8Array.of(0x21, ...key), Uint8Array.of(1)])],
      'a path is padded',
    ],
    [
      'three items',
      [RLP.encode([Uint8Array.of(0x20), Uint8Array.of(1), Uint8Array.of(1)])],
      'neither 2 nor 17',
    ],
    ['no items', [RLP.encode([])], 'neither 2 nor 17'],
    ['eighteen items', [RLP.encode(Array.from({ length: 18 }, () => new Uint8Array()))], 'more than 17'],
    ['a branch with a value', [branch(1, hash(leaf), Uint8Array.of(1)), leaf], 'a branch has a value'],
    ['a reference of 31 bytes', [branch(1, new Uint8Array(31).fill(7))], '32 bytes were expected'],
    ['a long node inside its parent', [branch(1, [new Uint8Array(31).fill(7)])], 'a long node lies inside'],
    ['an empty leaf', [RLP.encode([Uint8Array.of(0x20, ...key), new Uint8Array()])], 'a leaf is empty'],
    ['a leaf that holds a list', [RLP.encode([Uint8Array.of(0x20, ...key), []])], 'a string was expected'],
    [
      'a node of 601 bytes',
      [RLP.encode([Uint8Array.of(0x20, ...key), new Uint8Array(600)])],
      'a node is too long',
    ],
  ])('refuses %s', (_, nodes, why) => {
    expect(() => provenValue(hash(nodes[0]!), key, nodes)).toThrow(why);
  });

  test('a chain of branches longer than the key ends', () => {
    // Impossible for whoever cannot break Keccak-256; the bound holds all the same.
    const many = Array.from({ length: 66 }, () => leaf);
    expect(() => provenValue(hash(leaf), key, many)).toThrow('more than 65 nodes');
  });

  test('the empty trie has nothing, and nothing proves that', () => {
    const root = keccak256(Uint8Array.of(0x80));
    expect(provenValue(root, key, [])).toBeUndefined();
    expect(provenValue(root, key, [Uint8Array.of(0x80)])).toBeUndefined();
    expect(() => provenValue(root, key, [leaf])).toThrow('nodes of an empty trie');
    expect(() => provenValue(root, key, [Uint8Array.of(0x80), leaf])).toThrow('nodes of an empty trie');
    expect(() => provenValue(hash(leaf), key, [])).toThrow('a node is missing');
    expect(() => provenValue(new Uint8Array(31), key, [])).toThrow('no hash');
  });

  test('a node inside its parent may be listed once more, and only as it is', () => {
    const small = [Uint8Array.of(0x20), Uint8Array.of(1)];
    // 63 nibbles of extension, a branch, and a leaf of no nibbles in it.
    const inner = branch(1, small);
    const outer = RLP.encode([Uint8Array.of(0x11, ...key.subarray(1)), hash(inner)]);
    const listed = RLP.encode(small);
    expect(provenValue(hash(outer), key, [outer, inner])).toEqual(Uint8Array.of(1));
    expect(provenValue(hash(outer), key, [outer, inner, listed])).toEqual(Uint8Array.of(1));
    expect(() => provenValue(hash(outer), key, [outer, inner, listed, listed])).toThrow('left over');
    const forged = RLP.encode([Uint8Array.of(0x20), Uint8Array.of(2)]);
    expect(() => provenValue(hash(outer), key, [outer, inner, forged])).toThrow('left over');
  });
});

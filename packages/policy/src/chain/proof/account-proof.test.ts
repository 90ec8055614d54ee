/** Accounts and storage of states that another implementation built; answers of any form. */
import { toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { createMerkleProof, createMPT, type MerklePatriciaTrie } from '@ethereumjs/mpt';
import { RLP } from '@ethereumjs/rlp';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { filled } from '../../test/facts.ts';
import { slotBytes } from '../contracts/slots.ts';
import { type Proven, provenAccount } from './account-proof.ts';
import { bytesOf, hex } from './test/compare.ts';

type Account = { nonce: bigint; balance: bigint; code: Uint8Array; storage: ReadonlyMap<bigint, bigint> };
type World = {
  readonly stateRoot: Uint8Array;
  /** What an honest node answers. */
  answer(address: string, slots: readonly bigint[]): Promise<object>;
};

/** Integers are as short as they can be. */
const short = (value: bigint): Uint8Array => {
  const bytes = slotBytes(value);
  return bytes.subarray(
    bytes.findIndex((byte) => byte !== 0) === -1 ? 32 : bytes.findIndex((byte) => byte !== 0),
  );
};
const addressOf = (n: number): string => hex(filled(20, n));

async function worldOf(accounts: ReadonlyMap<number, Account>): Promise<World> {
  const state = await createMPT({});
  const storages = new Map<string, MerklePatriciaTrie>();
  for (const [n, { nonce, balance, code, storage }] of accounts) {
    const trie = await createMPT({});
    for (const [slot, value] of storage) await trie.put(keccak256(slotBytes(slot)), RLP.encode(short(value)));
    storages.set(addressOf(n), trie);
    const account = RLP.encode([short(nonce), short(balance), trie.root(), keccak256(code)]);
    await state.put(keccak256(bytesOf(addressOf(n))), account);
  }
  const proofOf = async (trie: MerklePatriciaTrie, key: Uint8Array): Promise<string[]> =>
    (await createMerkleProof(trie, keccak256(key))).map(hex);
  return {
    stateRoot: state.root(),
    async answer(address, slots) {
      const trie = storages.get(address) ?? (await createMPT({}));
      const storageProof = [];
      for (const slot of slots) storageProof.push({ proof: await proofOf(trie, slotBytes(slot)) });
      return { accountProof: await proofOf(state, bytesOf(address)), storageProof };
    },
  };
}

const slot = fc.oneof(fc.bigInt(0n, 12n), fc.bigInt(0n, 2n ** 256n - 1n));
const account: fc.Arbitrary<Account> = fc.record({
  nonce: fc.bigInt(0n, 300n),
  balance: fc.bigInt(0n, 2n ** 100n),
  code: fc.constantFrom(new Uint8Array(), Uint8Array.of(1), Uint8Array.of(2)),
  storage: fc
    .array(fc.tuple(slot, fc.bigInt(1n, 2n ** 256n - 1n)), { maxLength: 12 })
    .map((entries) => new Map(entries)),
});
const accounts = fc.array(fc.tuple(fc.nat(12), account), { maxLength: 8 }).map((entries) => new Map(entries));

describe('provenAccount', () => {
  test('finds what is in the state, and that the rest is not', async () => {
    await fc.assert(
      fc.asyncProperty(accounts, fc.nat(14), fc.array(slot, { maxLength: 6 }), async (all, n, more) => {
        const world = await worldOf(all);
        const found = all.get(n);
        const slots = [...new Set([...(found?.storage.keys() ?? []), ...more])];
        const { account: proven, values } = provenAccount(
          world.stateRoot,
          addressOf(n),
          slots,
          await world.answer(addressOf(n), slots),
        );
        expect(proven.codeHash).toBe(
          found && found.code.length > 0 ? `0x${toHex(keccak256(found.code))}` : undefined,
        );
        for (const one of slots) expect(values.get(one)).toBe(found?.storage.get(one) ?? 0n);
      }),
      { numRuns: 60 },
    );
  });

  test('an answer about another account, other slots or another state never says anything untrue', async () => {
    await fc.assert(
      fc.asyncProperty(
        accounts,
        fc.nat(12),
        fc.nat(12),
        slot,
        slot,
        accounts,
        async (all, n, other, one, two, elsewhere) => {
          const [world, lies] = [await worldOf(all), await worldOf(elsewhere)];
          const truth = all.get(n);
          const answers = [
            await world.answer(addressOf(other), [one]),
            await world.answer(addressOf(n), [two]),
            await lies.answer(addressOf(n), [one]),
          ];
          for (const answer of answers) {
            let proven: Proven;
            try {
              proven = provenAccount(world.stateRoot, addressOf(n), [one], answer);
            } catch (error) {
              expect(error).toMatchObject({ name: 'PolicyError', code: 'chain-proof' });
              continue;
            }
            expect(proven.values.get(one)).toBe(truth?.storage.get(one) ?? 0n);
            expect(proven.account.storageRoot === undefined).toBe(truth === undefined);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('answers of any form are refused with the one error', () => {
    const node = fc.oneof(
      fc.string(),
      fc.uint8Array({ minLength: 1, maxLength: 80 }).map(hex),
      fc.anything(),
    );
    const answer = fc.oneof(
      fc.anything(),
      fc.record({
        accountProof: fc.array(node),
        storageProof: fc.array(fc.record({ proof: fc.array(node) })),
      }),
    );
    fc.assert(
      fc.property(answer, fc.array(slot, { maxLength: 2 }), (any, slots) => {
        expect(() => provenAccount(filled(32, 7), addressOf(1), slots, any)).toThrow(
          expect.objectContaining({ name: 'PolicyError', code: 'chain-proof' }),
        );
      }),
      { numRuns: 500 },
    );
  });

  const key = keccak256(bytesOf(addressOf(1)));
  const only = (value: Uint8Array): [Uint8Array, object] => {
    const leaf = RLP.encode([Uint8Array.of(0x20, ...key), value]);
    return [keccak256(leaf), { accountProof: [hex(leaf)], storageProof: [] }];
  };
  test.each<[string, Uint8Array, string]>([
    ['three members', RLP.encode([short(1n), short(1n), filled(32, 1)]), 'an account has not four members'],
    [
      'five members',
      RLP.encode([short(1n), short(1n), filled(32, 1), filled(32, 1), short(1n)]),
      'more than 4',
    ],
    [
      'a nonce with a zero in front',
      RLP.encode([Uint8Array.of(0, 1), short(1n), filled(32, 1), filled(32, 1)]),
      'leading zero',
    ],
    [
      'a short code hash',
      RLP.encode([short(1n), short(1n), filled(32, 1), filled(31, 1)]),
      '32 bytes were expected',
    ],
    [
      'a list as root',
      RLP.encode([short(1n), short(1n), [filled(31, 1)], filled(32, 1)]),
      'a string was expected',
    ],
    ['no list', RLP.encode(filled(40, 1)), 'a list was expected'],
  ])('an account with %s is none', (_, value, why) => {
    const [root, answer] = only(value);
    expect(() => provenAccount(root, addressOf(1), [], answer)).toThrow(why);
  });
});

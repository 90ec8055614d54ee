import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { z } from 'zod';
import { PolicyError } from '../../errors.ts';
import { slotBytes } from '../contracts/slots.ts';
import { type Block, resultOf } from '../rpc/block.ts';
import { askWhole, byHashOrNumber } from '../rpc/pinned-calls.ts';
import type { RpcAnswer, RpcCall } from '../rpc/rpc-answer.ts';
import type { RpcEndpoint } from '../rpc/rpc-endpoint.ts';
import { type Proven, type ProvenAccount, provenAccount } from './account-proof.ts';
import { type Header, verifiedHeader } from './block-header.ts';

/** Slots of an account that a decision reads; none for the account alone. */
export type Wanted = { readonly address: string; readonly slots: readonly bigint[] };

/** Asks endpoints one after the other until one gives what can be proven. */
export type AskEndpoints = <T>(ask: (endpoint: RpcEndpoint) => Promise<T>) => Promise<T>;

/** EIP-170 allows 24,576 bytes. */
const codeSchema = z.string().regex(/^0x([0-9a-f]{2}){0,24576}$/i);

/** What was proven at one block so far. It stays true, so all who decide at the block share it. */
export class ProvenFacts {
  header: Header | undefined;
  readonly accounts: Map<string, { account: ProvenAccount; values: Map<bigint, bigint> }> = new Map();
  /** Accounts and slots that were added. */
  size = 0;
}

/** Reads the state at one block; anything not loaded cannot be read. */
export class ProvenState {
  readonly #block: Block;
  readonly #ask: AskEndpoints;
  readonly #facts: ProvenFacts;

  /** @param facts of the same block */
  constructor(block: Block, ask: AskEndpoints, facts: ProvenFacts) {
    this.#block = block;
    this.#ask = ask;
    this.#facts = facts;
  }

  /** Learn what is not known yet, all in one exchange. @throws PolicyError of the last endpoint when none proves it */
  async load(wanted: readonly Wanted[]): Promise<void> {
    const { accounts } = this.#facts;
    const missing = wanted.map(({ address, slots }) => {
      const values = accounts.get(address)?.values;
      return { address, slots: slots.filter((slot) => !values?.has(slot)) };
    });
    const needed = missing.filter(({ address, slots }) => slots.length > 0 || !accounts.has(address));
    if (needed.length === 0) return;
    const { header, proven } = await this.#ask((endpoint) => this.#prove(endpoint, needed));
    this.#facts.header = header;
    needed.forEach(({ address }, index) => {
      const { account, values } = proven[index]!;
      const before = accounts.get(address)?.values ?? [];
      accounts.set(address, { account, values: new Map([...before, ...values]) });
      this.#facts.size += 1 + values.size;
    });
  }

  /** 0x hex; undefined when there is no code. */
  codeHash(address: string): string | undefined {
    return this.#loaded(address).account.codeHash;
  }

  slot(address: string, slot: bigint): bigint {
    const value = this.#loaded(address).values.get(slot);
    if (value === undefined) throw new PolicyError('backend-answer', 'a slot was read before it was proven');
    return value;
  }

  /** The code whose hash was proven. */
  async code(address: string): Promise<Uint8Array> {
    const codeHash = fromHex(this.codeHash(address) ?? '', { length: 32, prefix: 'allow' });
    return await this.#ask(async (endpoint) => {
      const [answer] = await this.#askAt(endpoint, (at) => [
        { method: 'eth_getCode', params: [address, at] },
      ]);
      const parsed = codeSchema.safeParse(resultOf(answer));
      if (!parsed.success) throw new PolicyError('backend-answer', 'RPC endpoint answered no code');
      const code = fromHex(parsed.data, { prefix: 'allow' });
      if (equalBytes(keccak256(code), codeHash)) return code;
      throw new PolicyError('chain-proof', 'RPC endpoint gave other code than the account has');
    });
  }

  #loaded(address: string): { account: ProvenAccount; values: ReadonlyMap<bigint, bigint> } {
    const loaded = this.#facts.accounts.get(address);
    if (!loaded) throw new PolicyError('backend-answer', 'an account was read before it was proven');
    return loaded;
  }

  async #prove(
    endpoint: RpcEndpoint,
    wanted: readonly Wanted[],
  ): Promise<{ header: Header; proven: Proven[] }> {
    const known = this.#facts.header;
    const answers = await this.#askAt(endpoint, (at) => [
      ...wanted.map(({ address, slots }) => ({
        method: 'eth_getProof',
        params: [address, slots.map((slot) => `0x${toHex(slotBytes(slot))}`), at],
      })),
      ...(known ? [] : [{ method: 'eth_getBlockByHash', params: [this.#block.hash, false] }]),
    ]);
    const header = known ?? verifiedHeader(blockOf(answers.pop()), this.#block);
    const proven = wanted.map(({ address, slots }, index) => {
      const account = this.#facts.accounts.get(address)?.account;
      return provenAccount(header.stateRoot, address, slots, resultOf(answers[index]), account);
    });
    return { header, proven };
  }

  /** What is proven shows which block it was, however that was named. */
  #askAt(endpoint: RpcEndpoint, calls: (at: unknown) => RpcCall[]): Promise<RpcAnswer[]> {
    const byNumber = calls(`0x${this.#block.number.toString(16)}`);
    return byHashOrNumber(endpoint, endpoint.lacks.proofsByHash, calls({ blockHash: this.#block.hash }), () =>
      askWhole(endpoint, byNumber),
    );
  }
}

/** A node behind a balancer may not have it yet, and a reorganisation removes it. */
function blockOf(answer: RpcAnswer | undefined): unknown {
  const block = resultOf(answer);
  if (block === null) throw new PolicyError('backend-answer', 'RPC endpoint does not have the agreed block');
  return block;
}

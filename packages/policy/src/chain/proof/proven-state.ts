import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { z } from 'zod';
import { PolicyError } from '../../errors.ts';
import { type Block, resultOf } from '../block.ts';
import type { RpcAnswer, RpcCall, RpcEndpoint } from '../rpc-endpoint.ts';
import { type ProvenAccount, provenAccount } from './account-proof.ts';
import { type Header, verifiedHeader } from './block-header.ts';
import { slotBytes } from './slots.ts';

/** Slots of an account that a decision reads; none for the account alone. */
export type Wanted = { readonly address: string; readonly slots: readonly bigint[] };

/** Asks endpoints one after the other until one gives what can be proven. */
export type AskEndpoints = <T>(ask: (endpoint: RpcEndpoint) => Promise<T>) => Promise<T>;

/** Endpoints that want block numbers with `eth_getProof`; what they prove shows which block it was. */
const wantsNumbers = new WeakSet<RpcEndpoint>();

/** EIP-170 allows 24,576 bytes. */
const codeSchema = z.string().regex(/^0x([0-9a-f]{2}){0,24576}$/i);

/** What was proven of the state at one block; anything not loaded cannot be read. */
export class ProvenState {
  readonly #block: Block;
  readonly #ask: AskEndpoints;
  readonly #accounts = new Map<string, { codeHash: string | undefined; values: Map<bigint, bigint> }>();
  #header: Header | undefined;

  constructor(block: Block, ask: AskEndpoints) {
    this.#block = block;
    this.#ask = ask;
  }

  /** Learn what is not known yet, all in one exchange. @throws PolicyError of the last endpoint when none proves it */
  async load(wanted: readonly Wanted[]): Promise<void> {
    const missing = wanted.map(({ address, slots }) => {
      const values = this.#accounts.get(address)?.values;
      return { address, slots: slots.filter((slot) => !values?.has(slot)) };
    });
    const needed = missing.filter(({ address, slots }) => slots.length > 0 || !this.#accounts.has(address));
    if (needed.length === 0) return;
    const { header, accounts } = await this.#ask((endpoint) => this.#prove(endpoint, needed));
    this.#header = header;
    needed.forEach(({ address }, index) => {
      const { codeHash, values } = accounts[index]!;
      const before = this.#accounts.get(address)?.values ?? [];
      this.#accounts.set(address, { codeHash, values: new Map([...before, ...values]) });
    });
  }

  /** 0x hex; undefined when there is no code. */
  codeHash(address: string): string | undefined {
    return this.#loaded(address).codeHash;
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

  #loaded(address: string): { codeHash: string | undefined; values: ReadonlyMap<bigint, bigint> } {
    const account = this.#accounts.get(address);
    if (!account) throw new PolicyError('backend-answer', 'an account was read before it was proven');
    return account;
  }

  async #prove(
    endpoint: RpcEndpoint,
    wanted: readonly Wanted[],
  ): Promise<{ header: Header; accounts: ProvenAccount[] }> {
    const known = this.#header;
    const answers = await this.#askAt(endpoint, (at) => [
      ...wanted.map(({ address, slots }) => ({
        method: 'eth_getProof',
        params: [address, slots.map((slot) => `0x${toHex(slotBytes(slot))}`), at],
      })),
      ...(known ? [] : [{ method: 'eth_getBlockByHash', params: [this.#block.hash, false] }]),
    ]);
    const header = known ?? verifiedHeader(blockOf(answers.pop()), this.#block);
    const accounts = wanted.map(({ address, slots }, index) =>
      provenAccount(header.stateRoot, address, slots, resultOf(answers[index])),
    );
    return { header, accounts };
  }

  /** Pinned to the block's hash (EIP-1898), or to its number where a node does not understand that. */
  async #askAt(endpoint: RpcEndpoint, calls: (at: unknown) => RpcCall[]): Promise<RpcAnswer[]> {
    if (!wantsNumbers.has(endpoint)) {
      const answers = await endpoint.batch(calls({ blockHash: this.#block.hash }));
      if (!answers.some((answer) => 'error' in answer)) return answers;
    }
    const answers = await endpoint.batch(calls(`0x${this.#block.number.toString(16)}`));
    if (!answers.some((answer) => 'error' in answer)) wantsNumbers.add(endpoint);
    return answers;
  }
}

/** A node behind a balancer may not have it yet, and a reorganisation removes it. */
function blockOf(answer: RpcAnswer | undefined): unknown {
  const block = resultOf(answer);
  if (block === null) throw new PolicyError('backend-answer', 'RPC endpoint does not have the agreed block');
  return block;
}

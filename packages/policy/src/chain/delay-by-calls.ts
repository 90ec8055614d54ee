import { fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { BoundedMap, cachedPromise } from '@dstack-cloud/runtime';
import type { ChainSettings } from './chain-options.ts';
import { decodeWord, encodePolicyDelaySince } from './contracts/contract-calls.ts';
import { type DelayedContract, delayDenial, enforcesDelay, noDelayCode } from './contracts/delay-denial.ts';
import { type CodeName, KnownCode } from './contracts/known-code.ts';
import { IMPLEMENTATION_SLOT, slotBytes } from './contracts/slots.ts';
import type { Block } from './rpc/block.ts';
import { callResult, readsAt, resultsKey } from './rpc/pinned-calls.ts';
import { agreeing, collectVotes, noQuorum } from './rpc/quorum.ts';
import type { RpcCall } from './rpc/rpc-answer.ts';
import type { RpcEndpoint } from './rpc/rpc-endpoint.ts';
import type { ChainSnapshot } from './snapshot/read-snapshot.ts';

/** Answers are kept for so many blocks: head and finalized block of a few snapshots … */
const MAX_BLOCKS = 8;
/** … and of so many contracts at each; who asks chooses them. */
const MAX_CONTRACTS = 4_096;

type Read = (at: unknown) => RpcCall;

/**
 * Finds out by calls whether a contract's policy can be loosened only after the demanded delay. What a contract says
 * of itself means something only if its code is known, so the code of the proxy and that of the implementation are
 * read at the same block; a quorum of endpoints must give the same bytes.
 */
export class DelayByCalls {
  readonly #settings: ChainSettings;
  readonly #codes: KnownCode;
  readonly #denials = new BoundedMap<string, Map<string, Promise<string | undefined>>>(MAX_BLOCKS);

  constructor(settings: ChainSettings) {
    this.#settings = settings;
    this.#codes = new KnownCode(settings.knownCode);
  }

  /** @returns why not; undefined if it is so. @throws PolicyError when it cannot be learned */
  denial(
    snapshot: ChainSnapshot,
    block: Block,
    contract: DelayedContract,
    address: string,
  ): Promise<string | undefined> {
    const page =
      this.#denials.get(block.hash) ?? new BoundedMap<string, Promise<string | undefined>>(MAX_CONTRACTS);
    this.#denials.set(block.hash, page);
    return cachedPromise(page, `${contract}/${address}`, () =>
      this.#read(snapshot, block, contract, address),
    );
  }

  async #read(
    snapshot: ChainSnapshot,
    block: Block,
    contract: DelayedContract,
    address: string,
  ): Promise<string | undefined> {
    const { requireTimelockSeconds: required = 0 } = this.#settings;
    const read = (...reads: Read[]): Promise<(string | undefined)[]> => this.#agreed(snapshot, block, reads);
    const slot = `0x${toHex(slotBytes(IMPLEMENTATION_SLOT))}`;
    const [proxy, word, since] = await read(
      codeOf(address),
      (at) => ({ method: 'eth_getStorageAt', params: [address, slot, at] }),
      (at) => ({
        method: 'eth_call',
        params: [{ to: address, data: encodePolicyDelaySince(required) }, at],
      }),
    );
    const proxyHash = hashOf(proxy);
    if (this.#codes.byHash(proxyHash) !== 'erc1967-proxy') {
      return `${contract} contract code is not known (code hash ${proxyHash})`;
    }
    const implementation = /^0x0{24}([0-9a-f]{40})$/.exec(word ?? '')?.[1];
    if (implementation === undefined) return `${contract} contract has no implementation (slot is ${word})`;
    const [code] = await read(codeOf(`0x${implementation}`));
    const name = this.#nameOf(code, `0x${implementation}`);
    if (name === undefined || !name.startsWith(`dstack-${contract.toLowerCase()}-`)) {
      return `${contract} contract implementation 0x${implementation} is not known (code hash ${hashOf(code)})`;
    }
    if (!enforcesDelay(name)) return noDelayCode(contract, name);
    return delayDenial(contract, required, decodeWord(since) ?? 0n, block.timestamp);
  }

  #nameOf(code: string | undefined, address: string): CodeName | undefined {
    const hash = hashOf(code);
    return this.#codes.byHash(hash) ?? this.#codes.byCode(hash, bytesOf(code), address);
  }

  /** Lower-case 0x hex, undefined for a call that reverted. */
  async #agreed(
    snapshot: ChainSnapshot,
    block: Block,
    reads: readonly Read[],
  ): Promise<(string | undefined)[]> {
    const { quorum, failures } = this.#settings;
    const ask = (endpoint: RpcEndpoint) =>
      failures.during(endpoint, async () =>
        (await readsAt(endpoint, block, (at) => reads.map((one) => one(at)))).map(callResult),
      );
    const votes = await collectVotes(snapshot.endpoints, quorum, ask, { sameness: resultsKey });
    const [agreed] = agreeing(votes, quorum, resultsKey) ?? [];
    if (!agreed) throw noQuorum();
    return agreed.value.map((result) => (typeof result === 'string' ? result : undefined));
  }
}

const codeOf =
  (address: string): Read =>
  (at) => ({ method: 'eth_getCode', params: [address, at] });

const bytesOf = (code = '0x'): Uint8Array => fromHex(code, { prefix: 'allow' });
const hashOf = (code: string | undefined): string => `0x${toHex(keccak256(bytesOf(code)))}`;

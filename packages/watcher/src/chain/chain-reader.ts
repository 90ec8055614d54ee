import { type ChainEvent, type ChainPolicyOptions, type Finality, PolicyError } from '@dstack-cloud/policy';
import {
  agreeing,
  askWhole,
  type Block,
  blockCall,
  blockFromAnswer,
  blockKey,
  type ChainSettings,
  type ChainSnapshot,
  callResult,
  callsAt,
  chainSettings,
  collectVotes,
  KnownHeads,
  noQuorum,
  Reverted,
  RpcEndpoint,
  readSnapshot,
  readsAt,
  resultOf,
} from '@dstack-cloud/policy/following';
import { type Hex, numberToHex, toFunctionSelector } from 'viem';
import { type LogRange, readBlocks, readPast, TooMuch, type Wanted } from './read-logs.ts';

/** How the chain is read. */
export type ChainReaderOptions = {
  readonly rpcUrls: readonly string[];
  readonly kmsContract: Hex;
  readonly chainId?: number | undefined;
  /** How many endpoints must say the same; default more than half. */
  readonly quorum?: number | undefined;
  readonly finality?: Finality | undefined;
  readonly timeoutMs?: number | undefined;
  /** Unix seconds. */
  readonly now?: (() => number) | undefined;
  readonly onEvent?: ((event: ChainEvent) => void) | undefined;
};

/** How a call would end, and what the contract says of it. */
export type Outcome = { readonly fails: false } | { readonly fails: true; readonly reason: string };

/** As much as a block has room for, so that a call which burns all it gets does not hold up a node. */
const SIMULATION_GAS = numberToHex(30_000_000);
/** A contract with a policy delay has not heard of the call for long enough: it may until the call is made. */
const NOT_ANNOUNCED = toFunctionSelector('NotAnnounced(bytes32,uint64)').slice(2);

/** Reads the chain from several endpoints; whatever it gives, a quorum of them said alike. */
export class ChainReader {
  readonly #settings: ChainSettings;
  readonly #endpoints: readonly RpcEndpoint[];
  readonly #known = new KnownHeads();

  /** @throws PolicyError `bad-configuration` */
  constructor({ timeoutMs, ...options }: ChainReaderOptions) {
    const given = { ...options, endpointTimeoutMs: timeoutMs };
    // Options given as undefined count as not given.
    this.#settings = chainSettings(given as ChainPolicyOptions);
    const { rpcUrls, endpointTimeoutMs, onEvent } = this.#settings;
    this.#endpoints = rpcUrls.map(
      (url) =>
        new RpcEndpoint(url, endpointTimeoutMs, (endpoint, what) =>
          onEvent({ type: 'endpoint-lacks', endpoint, what }),
        ),
    );
  }

  /** State of each endpoint, by scheme and host. */
  get endpoints(): { readonly url: string; readonly healthy: boolean; readonly failures: number }[] {
    return this.#endpoints.map(({ name, healthy, failures }) => ({ url: name, healthy, failures }));
  }

  /** The head that a quorum agrees on. @throws PolicyError `chain-stale` when it is behind one before */
  async view(): Promise<ChainSnapshot> {
    const { maxClockSkewSeconds, now } = this.#settings;
    const view = await readSnapshot(this.#endpoints, this.#settings, { known: this.#known });
    if (view.head.timestamp - now() > maxClockSkewSeconds)
      throw new PolicyError('chain-stale', 'The head of the chain is in the future');
    this.#known.assertNotBehind(view.head);
    this.#known.note(view.head);
    return view;
  }

  /** Blocks by number, as the chain has them now. */
  async blocks(view: ChainSnapshot, numbers: readonly number[]): Promise<Block[]> {
    if (numbers.length === 0) return [];
    const calls = numbers.map((number) => blockCall(BigInt(number)));
    return await this.#agreed(
      view,
      async (endpoint) => (await askWhole(endpoint, calls)).map(blockFromAnswer),
      (blocks) => blocks.map(blockKey).join(),
    );
  }

  /** Logs of the blocks, one by one. @param parent hash that the first one must name as its parent */
  async nearLogs(view: ChainSnapshot, wanted: Wanted, parent: string | undefined): Promise<LogRange> {
    return await this.#agreed(view, (endpoint) => readBlocks(endpoint, wanted, parent), rangeKey);
  }

  /** Logs of blocks that are finalized. */
  async pastLogs(view: ChainSnapshot, wanted: Wanted): Promise<LogRange> {
    return await this.#agreed(view, (endpoint) => readPast(endpoint, wanted), rangeKey);
  }

  /** Results of calls at a block; undefined for what reverted. */
  async calls(
    view: ChainSnapshot,
    block: Block,
    calls: readonly { readonly to: Hex; readonly data: Hex }[],
  ): Promise<(Hex | undefined)[]> {
    if (calls.length === 0) return [];
    return await this.#agreed(
      view,
      async (endpoint) =>
        (await callsAt(endpoint, block, calls)).map((answer) => {
          const result = callResult(answer);
          return result instanceof Reverted ? undefined : (result as Hex);
        }),
      (results) => results.map(String).join(),
    );
  }

  /** Words of storage at a block. */
  async storage(
    view: ChainSnapshot,
    block: Block,
    places: readonly { readonly address: Hex; readonly slot: Hex }[],
  ): Promise<Hex[]> {
    if (places.length === 0) return [];
    return await this.#agreed(
      view,
      async (endpoint) => {
        const calls = (at: unknown) =>
          places.map(({ address, slot }) => ({ method: 'eth_getStorageAt', params: [address, slot, at] }));
        return (await readsAt(endpoint, block, calls)).map((answer) => {
          const word = resultOf(answer);
          if (typeof word === 'string' && /^0x[0-9a-fA-F]{1,64}$/.test(word))
            return `0x${word.slice(2).toLowerCase().padStart(64, '0')}` satisfies Hex;
          throw new PolicyError('backend-answer', 'RPC endpoint answered no word of storage');
        });
      },
      (words) => words.join(),
    );
  }

  /**
   * How calls would end that these accounts made at a block. Endpoints have to agree whether a call fails; why, only one
   * of them says.
   */
  async outcomes(
    view: ChainSnapshot,
    block: Block,
    calls: readonly { readonly from: Hex; readonly to: Hex; readonly value: bigint; readonly data: Hex }[],
  ): Promise<Outcome[]> {
    if (calls.length === 0) return [];
    const objects = calls.map(({ value, ...rest }) => ({
      ...rest,
      value: numberToHex(value),
      gas: SIMULATION_GAS,
    }));
    return await this.#agreed(
      view,
      async (endpoint) =>
        (await callsAt(endpoint, block, objects)).map((answer): Outcome => {
          // Who makes the call cannot pay what it sends: nodes call that no revert.
          if ('error' in answer && /insufficient (funds|balance)/i.test(answer.error.message))
            return { fails: true, reason: 'insufficient funds' };
          const result = callResult(answer);
          if (!(result instanceof Reverted)) return { fails: false };
          const isUnannounced =
            'error' in answer && JSON.stringify(answer.error).toLowerCase().includes(NOT_ANNOUNCED);
          return isUnannounced ? { fails: false } : { fails: true, reason: result.reason };
        }),
      (outcomes) => outcomes.map(({ fails }) => fails).join(),
      // Whoever made the proposal chose the call: what a node makes of it says nothing of the node.
      { isTheirFailure: false },
    );
  }

  close(): void {
    for (const endpoint of this.#endpoints) endpoint.close();
  }

  async #agreed<T>(
    { endpoints }: ChainSnapshot,
    ask: (endpoint: RpcEndpoint) => Promise<T>,
    key: (value: T) => string,
    { isTheirFailure = true }: { readonly isTheirFailure?: boolean } = {},
  ): Promise<T> {
    const { quorum, failures } = this.#settings;
    let tooMuch = false;
    const asked = async (endpoint: RpcEndpoint): Promise<T> => {
      try {
        return await (isTheirFailure ? failures.during(endpoint, () => ask(endpoint)) : ask(endpoint));
      } catch (error) {
        tooMuch ||= error instanceof TooMuch;
        throw error;
      }
    };
    try {
      const votes = await collectVotes(endpoints, quorum, asked, { sameness: key });
      const [first] = agreeing(votes, quorum, key) ?? [];
      if (first) return first.value;
    } catch (error) {
      if (!tooMuch) throw error;
    }
    throw tooMuch ? new TooMuch() : noQuorum();
  }
}

/** Equal for the same blocks with the same logs. */
function rangeKey({ from, end, logs, times, senders }: LogRange): string {
  return JSON.stringify([from, blockKey(end), logs, times, senders]);
}

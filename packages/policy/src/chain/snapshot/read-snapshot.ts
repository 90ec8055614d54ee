import { PolicyError } from '../../errors.ts';
import type { ChainSettings } from '../chain-options.ts';
import { type Block, blockCall, blockFromAnswer, blockKey, chainIdFromAnswer } from '../rpc/block.ts';
import { persist } from '../rpc/persist.ts';
import { agreeing, collectVotes, noQuorum, type Vote } from '../rpc/quorum.ts';
import { readBlock } from '../rpc/read-block.ts';
import type { RpcEndpoint } from '../rpc/rpc-endpoint.ts';
import { type AgreedHead, withFinalized } from './finalized-block.ts';
import type { KnownHeads } from './known-heads.ts';

/** One consistent snapshot of the chain: every read of a decision is pinned to these blocks. */
export type ChainSnapshot = {
  readonly chainId: number;
  readonly head: Block;
  /** The block a permission must also hold at; the head itself without a finality rule. */
  readonly finalized: Block;
  /** Those to ask at its blocks: a quorum at least, mostly those that agree on the head. */
  readonly endpoints: readonly RpcEndpoint[];
};

/** Endpoints may know a new block at different times. */
const MAX_SPREAD = 1n;
/** How long all are waited for when those who were heard may be behind. */
const PATIENCE_MS = 1_000;

type Head = { readonly chainId: number; readonly block: Block };

type Reading = {
  /** The heads that were agreed upon before. */
  readonly known: KnownHeads;
  /** The last snapshot was not enough to decide by: hear all endpoints, also those that are late. */
  readonly hearAll?: boolean;
};

/**
 * Agree on a snapshot.
 * @throws PolicyError `chain-stale` for a head that is behind the one before
 */
export async function readSnapshot(
  all: readonly RpcEndpoint[],
  settings: ChainSettings,
  before: Reading,
): Promise<ChainSnapshot> {
  const read = (fresh: boolean): Promise<AgreedHead & { finalized: Block }> =>
    withFinalized(() => readAgreedHead(all, settings, before, fresh), settings);
  // A balancer's other backends may be further.
  const { block, ...snapshot } = await persist(
    await read(false),
    () => read(true),
    (found) => !before.known.isBehind(found.block),
  );
  before.known.assertNotBehind(block);
  return { ...snapshot, head: block };
}

async function readAgreedHead(
  all: readonly RpcEndpoint[],
  settings: ChainSettings,
  { known, hearAll = false }: Reading,
  fresh: boolean,
): Promise<AgreedHead> {
  const { quorum } = settings;
  const ask = (endpoint: RpcEndpoint): Promise<Head> => readHead(endpoint, settings, fresh);
  if (!hearAll && !fresh) {
    const healthy = all.filter((endpoint) => endpoint.healthy);
    // Resting endpoints are asked again as soon as the others do not suffice.
    const voters = healthy.length >= quorum ? healthy : all;
    const heads = await collectVotes(voters, quorum, ask, { onLate: (endpoint) => endpoint.noteLate() });
    const agreed = await agreeOnHead(heads, settings);
    if (agreed && (heads.length === all.length || !mayBeBehind(agreed.block, heads, known.latest)))
      return agreed;
    if (heads.length === all.length) throw noQuorum();
  }
  // One endpoint may stand still, or lie, while who knows better rests or was a moment too late: hear everybody.
  const heads = await collectVotes(all, quorum, ask, { graceMs: PATIENCE_MS });
  const agreed = await agreeOnHead(heads, settings);
  if (!agreed) throw noQuorum();
  // Who named an older head may know this block all the same, and have a say in what it holds.
  return hearAll ? { ...agreed, endpoints: all } : agreed;
}

/** Whether a head is lower than the one before, or than what somebody names by more than blocks take to spread. */
function mayBeBehind(
  { number }: Block,
  heads: readonly Vote<RpcEndpoint, Head>[],
  known: Block | undefined,
): boolean {
  const named = heads.some(({ value }) => value.block.number > number + MAX_SPREAD);
  return named || (known !== undefined && number < known.number);
}

/** @throws PolicyError `chain-mismatch` for another chain than the configured one */
export async function readHead(endpoint: RpcEndpoint, settings: ChainSettings, fresh = false): Promise<Head> {
  const calls = [{ method: 'eth_chainId', params: [] }, blockCall('latest')];
  return await settings.failures.during(endpoint, async () => {
    const [id, block] = await endpoint.batch(calls, { fresh });
    const chainId = chainIdFromAnswer(id);
    if (settings.chainId !== undefined && chainId !== settings.chainId) {
      endpoint.noteFailure();
      throw new PolicyError(
        'chain-mismatch',
        `RPC endpoint is on chain ${chainId}, configured is ${settings.chainId}`,
      );
    }
    return { chainId, block: blockFromAnswer(block) };
  });
}

/** The highest block that enough endpoints have reached and name alike. */
async function agreeOnHead(
  heads: readonly Vote<RpcEndpoint, Head>[],
  { quorum, failures }: ChainSettings,
): Promise<AgreedHead | undefined> {
  const descending = [...heads].sort((a, b) => Number(b.value.block.number - a.value.block.number));
  const candidates = new Set(descending.slice(quorum - 1).map(({ value }) => value.block.number));
  for (const number of candidates) {
    const reached = descending.filter(({ value }) => value.block.number >= number);
    const ask = async ({ voter, value }: Vote<RpcEndpoint, Head>): Promise<Head> => {
      if (value.block.number === number) return value;
      const block = await failures.during(voter, () => readBlock(voter, number));
      return { chainId: value.chainId, block };
    };
    const votes = await collectVotes(reached, quorum, ask, { sameness: headKey }).catch(() => []);
    const same = agreeing(votes, quorum, headKey);
    const [first] = same ?? [];
    if (same && first) return { ...first.value, endpoints: same.map(({ voter }) => voter.voter) };
  }
  return undefined;
}

const headKey = ({ chainId, block }: Head): string => `${chainId}/${blockKey(block)}`;

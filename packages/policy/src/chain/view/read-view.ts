import { PolicyError } from '../../errors.ts';
import type { ChainSettings } from '../chain-options.ts';
import { agreeing, collectVotes, noQuorum, type Vote } from '../rpc/quorum.ts';
import type { RpcEndpoint } from '../rpc/rpc-endpoint.ts';
import { type Block, blockCall, blockFromAnswer, blockKey, chainIdFromAnswer } from './block.ts';
import { type AgreedHead, withSettled } from './settled-block.ts';

/** One consistent view of the chain: every read of a decision is pinned to these blocks. */
export type ChainView = {
  readonly chainId: number;
  readonly head: Block;
  /** The block a permission must also hold at; the head itself without a finality rule. */
  readonly settled: Block;
  /** Endpoints that agree on the head; at least a quorum. */
  readonly endpoints: readonly RpcEndpoint[];
};

/** Endpoints may know a new block at different times. */
const MAX_SPREAD = 1n;
/** How long all are waited for when those who were heard may be behind. */
const PATIENCE_MS = 1_000;

type Head = { readonly chainId: number; readonly block: Block };

/**
 * Agree on a view (chapter 60 section 8.2, points 1, 2 and 4).
 * @param known number of the head that was agreed upon before
 */
export async function readView(
  all: readonly RpcEndpoint[],
  settings: ChainSettings,
  known?: bigint,
): Promise<ChainView> {
  const { block, ...view } = await withSettled(() => readAgreedHead(all, settings, known), settings);
  return { ...view, head: block };
}

async function readAgreedHead(
  all: readonly RpcEndpoint[],
  settings: ChainSettings,
  known: bigint | undefined,
): Promise<AgreedHead> {
  const { quorum } = settings;
  const healthy = all.filter((endpoint) => endpoint.healthy);
  // Resting endpoints are asked again as soon as the others do not suffice.
  const voters = healthy.length >= quorum ? healthy : all;
  const heads = await collectVotes(
    voters,
    quorum,
    (endpoint) => readHead(endpoint, settings),
    (endpoint) => endpoint.noteLate(),
  );
  const agreed = await agreeOnHead(heads, quorum);
  if (heads.length === all.length || !isBehind(agreed.block, heads, known)) return agreed;
  // One endpoint may stand still while who knows better rests or was a moment too late: hear everybody.
  const ask = (endpoint: RpcEndpoint): Promise<Head> => readHead(endpoint, settings);
  return await agreeOnHead(await collectVotes(all, quorum, ask, undefined, PATIENCE_MS), quorum);
}

/** Whether a head is lower than the one before, or than what somebody names by more than blocks take to spread. */
function isBehind(
  { number }: Block,
  heads: readonly Vote<RpcEndpoint, Head>[],
  known: bigint | undefined,
): boolean {
  const named = heads.some(({ value }) => value.block.number > number + MAX_SPREAD);
  return named || (known !== undefined && number < known);
}

/** @throws PolicyError `chain-mismatch` for another chain than the configured one */
export async function readHead(endpoint: RpcEndpoint, settings: ChainSettings): Promise<Head> {
  const [id, block] = await reported(endpoint, settings, () =>
    endpoint.batch([{ method: 'eth_chainId', params: [] }, blockCall('latest')]),
  );
  return await reported(endpoint, settings, async () => {
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
async function agreeOnHead(heads: readonly Vote<RpcEndpoint, Head>[], quorum: number): Promise<AgreedHead> {
  const descending = [...heads].sort((a, b) => Number(b.value.block.number - a.value.block.number));
  const candidates = new Set(descending.slice(quorum - 1).map(({ value }) => value.block.number));
  for (const number of candidates) {
    const reached = descending.filter(({ value }) => value.block.number >= number);
    const votes = await collectVotes(reached, quorum, async ({ voter, value }): Promise<Head> => {
      if (value.block.number === number) return value;
      const [answer] = await voter.batch([blockCall(number)]);
      return { chainId: value.chainId, block: blockFromAnswer(answer) };
    }).catch(() => []);
    const same = agreeing(votes, quorum, headKey);
    const [first] = same ?? [];
    if (same && first) return { ...first.value, endpoints: same.map(({ voter }) => voter.voter) };
  }
  throw noQuorum();
}

const headKey = ({ chainId, block }: Head): string => `${chainId}/${blockKey(block)}`;

/** Run a step with one endpoint and tell the operator when it fails. */
async function reported<T>(
  endpoint: RpcEndpoint,
  { onEvent }: ChainSettings,
  step: () => Promise<T>,
): Promise<T> {
  try {
    return await step();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    onEvent({ type: 'endpoint-failed', endpoint: endpoint.name, message });
    throw error;
  }
}

import { PolicyError } from '../../errors.ts';
import type { ChainSettings } from '../chain-options.ts';
import { type Block, type BlockTag, blockKey } from '../rpc/block.ts';
import { agreeing, collectVotes, noQuorum } from '../rpc/quorum.ts';
import { readBlock } from '../rpc/read-block.ts';
import type { RpcEndpoint } from '../rpc/rpc-endpoint.ts';

/** How often a snapshot is read at most before a chain that changes all the time counts as one that cannot be read. */
const MAX_READINGS = 3;

/** A head and who names it. */
export type AgreedHead = {
  readonly chainId: number;
  readonly block: Block;
  readonly endpoints: readonly RpcEndpoint[];
};

/**
 * Adds the finalized block to a head. The two are read one after the other, so the chain may change its branch between
 * them; a permission of a block that is on another branch than the head is none. Both are therefore read once more by
 * number: what was the canonical chain before and after the finalized block was read was so meanwhile. Otherwise all is
 * read again.
 * @throws PolicyError `backend-answer` when the branch changed at every reading
 */
export async function withFinalized(
  readHead: () => Promise<AgreedHead>,
  { quorum, finality }: Pick<ChainSettings, 'quorum' | 'finality'>,
): Promise<AgreedHead & { finalized: Block }> {
  for (let reading = 0; reading < MAX_READINGS; reading += 1) {
    const agreed = await readHead();
    const { block: head, endpoints } = agreed;
    if (finality === 'latest' || finality === 0) return { ...agreed, finalized: head };
    const found = await readFinalized(head, endpoints, quorum, finality);
    // The chain went on between the two readings: the head itself is finalized.
    const finalized = found.number >= head.number ? head : found;
    if (found.number === head.number && blockKey(found) !== blockKey(head)) continue;
    if (await areCanonical([finalized, head], endpoints, quorum)) return { ...agreed, finalized };
  }
  throw new PolicyError('backend-answer', 'the chain changed its branch whenever it was read');
}

async function readFinalized(
  head: Block,
  endpoints: readonly RpcEndpoint[],
  quorum: number,
  finality: 'safe' | 'finalized' | number,
): Promise<Block> {
  const tag: BlockTag =
    typeof finality === 'string'
      ? finality
      : head.number > BigInt(finality)
        ? head.number - BigInt(finality)
        : 0n;
  const votes = await collectVotes(endpoints, quorum, (endpoint) => readBlock(endpoint, tag));
  const same = agreeing(votes, quorum, blockKey)?.[0]?.value;
  if (same) return same;
  // Finality moves: agree on the highest finalized block that enough endpoints have reached.
  const numbers = votes.map(({ value }) => value.number).sort((a, b) => Number(b - a));
  const number = numbers[quorum - 1];
  if (typeof tag === 'bigint' || number === undefined) throw noQuorum();
  const again = await collectVotes(endpoints, quorum, (endpoint) => readBlock(endpoint, number), {
    sameness: blockKey,
  });
  const agreed = agreeing(again, quorum, blockKey)?.[0]?.value;
  if (!agreed) throw noQuorum();
  return agreed;
}

/** Whether enough endpoints have all these blocks on their chain now. */
async function areCanonical(
  blocks: readonly Block[],
  endpoints: readonly RpcEndpoint[],
  quorum: number,
): Promise<boolean> {
  const ask = async (endpoint: RpcEndpoint): Promise<boolean> => {
    const found = await Promise.all(blocks.map((block) => isCanonical(endpoint, block)));
    return !found.includes(false);
  };
  const votes = await collectVotes(endpoints, quorum, ask, { sameness: String });
  return votes.filter(({ value }) => value).length >= quorum;
}

async function isCanonical(endpoint: RpcEndpoint, block: Block): Promise<boolean> {
  try {
    return blockKey(await readBlock(endpoint, block.number)) === blockKey(block);
  } catch (error) {
    // A branch that is shorter has no block of this number yet.
    if (error instanceof PolicyError && error.code === 'backend-answer') return false;
    throw error;
  }
}

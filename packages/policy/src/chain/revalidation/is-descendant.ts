import { type Block, blockCall, blockFromAnswer } from '../rpc/block.ts';
import { agreeing, collectVotes } from '../rpc/quorum.ts';
import type { RpcEndpoint } from '../rpc/rpc-endpoint.ts';
import type { ChainSnapshot } from '../snapshot/read-snapshot.ts';

/** So many blocks may have come between two readings of the head. */
const MAX_BETWEEN = 4n;

/**
 * Whether `to` grew on `from`, by the hashes of the parents between them. False also when that cannot be found out:
 * what was known at `from` then says nothing.
 */
export async function isDescendant(
  { endpoints }: ChainSnapshot,
  quorum: number,
  from: Block,
  to: Block,
): Promise<boolean> {
  const between = to.number - from.number - 1n;
  if (between === 0n) return to.parentHash === from.hash;
  if (between < 0n || between > MAX_BETWEEN) return false;
  const numbers = Array.from({ length: Number(between) }, (_, index) => from.number + 1n + BigInt(index));
  try {
    const links = (blocks: readonly Block[]): string =>
      blocks.map(({ hash, parentHash }) => `${parentHash}<${hash}`).join();
    const ask = async (endpoint: RpcEndpoint): Promise<Block[]> =>
      (await endpoint.gather(numbers.map(blockCall))).map(blockFromAnswer);
    const votes = await collectVotes(endpoints, quorum, ask, { sameness: links });
    const blocks = agreeing(votes, quorum, links)?.[0]?.value;
    if (!blocks) return false;
    const chain = [from, ...blocks, to];
    return chain.every((block, index) => index === 0 || block.parentHash === chain[index - 1]!.hash);
  } catch {
    return false;
  }
}

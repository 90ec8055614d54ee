import type { Checkpoint } from '../state/watch-state.ts';

/** Looked up at once. */
const STEP = 16;

/** What became of the blocks that were read. */
export type Fork =
  /** They are all there. */
  | { readonly kind: 'none' }
  /** The chain ends before them, and what it has is known: an endpoint is behind, or nothing can be said yet. */
  | { readonly kind: 'behind' }
  /** The last block that is still there. */
  | { readonly kind: 'fork'; readonly last: Checkpoint }
  /** Not even the first is there: it is another chain. */
  | { readonly kind: 'replaced' };

/** @param hashes hashes of blocks by number, as the chain has them now */
export async function findFork(
  checkpoints: readonly Checkpoint[],
  head: number,
  hashes: (numbers: readonly number[]) => Promise<readonly string[]>,
): Promise<Fork> {
  const reached = checkpoints.filter(({ number }) => number <= head);
  const isCut = reached.length < checkpoints.length;
  for (let end = reached.length; end > 0; end -= STEP) {
    const part = reached.slice(Math.max(0, end - STEP), end);
    const now = await hashes(part.map(({ number }) => number));
    for (let index = part.length - 1; index >= 0; index -= 1) {
      const checkpoint = part[index]!;
      if (checkpoint.hash !== now[index]) continue;
      if (checkpoint !== reached.at(-1)) return { kind: 'fork', last: checkpoint };
      return { kind: isCut ? 'behind' : 'none' };
    }
  }
  return { kind: checkpoints.length === 0 ? 'none' : reached.length === 0 ? 'behind' : 'replaced' };
}

import type { Hex } from 'viem';
import type { Source } from '../state/watch-state.ts';

/** Blocks at the head that are read one by one, by their hashes. */
export const NEAR = 64;

/** Blocks that are read next, of some contracts. */
export type Range = { readonly from: number; readonly to: number; readonly addresses: readonly Hex[] };

/**
 * The contracts that are furthest behind, and how far they can be read together. Strangers' contracts are read apart from
 * our own: what they write must not keep ours from being read.
 * @param size blocks in one question
 * @returns undefined when all have reached the target
 */
export function planRange(
  sources: Readonly<Record<string, Source>>,
  target: number,
  size: number,
): Range | undefined {
  const active = Object.entries(sources).filter(([, { muted }]) => muted === undefined);
  const starts = [...new Set(active.map(([, { next }]) => next))].sort((a, b) => a - b);
  const [from, other] = starts;
  if (from === undefined || from > target) return undefined;
  const behind = active.filter(([, { next }]) => next === from);
  const own = behind.filter(([, { listed }]) => listed);
  const group = own.length > 0 ? own : behind;
  const end = target - from < NEAR ? target : target - NEAR;
  const to = Math.min(end, from + size - 1, other === undefined ? end : other - 1);
  return { from, to, addresses: group.map(([address]) => address as Hex) };
}

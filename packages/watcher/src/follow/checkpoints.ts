import type { Checkpoint } from '../state/watch-state.ts';

/** Blocks at the end that are all remembered: reorganisations are short. */
const RECENT = 64;
const MAX = 160;

/**
 * Adds a block. Of the older ones fewer and fewer stay, and the first always does: also the deepest reorganisation finds
 * a block that it left alone.
 */
export function withCheckpoint(before: readonly Checkpoint[], added: Checkpoint): Checkpoint[] {
  const kept = before.filter(({ number }) => number < added.number);
  const all = [...kept, added];
  if (all.length <= MAX) return all;
  const old = all.slice(0, -RECENT);
  return [...old.filter((_, index) => index === 0 || index % 2 === old.length % 2), ...all.slice(-RECENT)];
}

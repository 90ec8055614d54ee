import type { LeftOut, Source } from '../state/watch-state.ts';

/** Parts that are told apart. Of more, the oldest are taken together. */
const MAX_PARTS = 256;

/** How many changes of a contract were read and not kept. They belong to what its own count is compared with. */
export function changesLeftOut({ leftOut = [] }: Pick<Source, 'leftOut'>): number {
  return leftOut.reduce((sum, { count }) => sum + count, 0);
}

/** Adds what was left out of the blocks that were read last. */
export function withLeftOut(before: readonly LeftOut[] = [], added: LeftOut): readonly LeftOut[] {
  if (added.count === 0) return before;
  const parts = [...before, added];
  if (parts.length <= MAX_PARTS) return parts;
  const [first, second, ...rest] = parts as [LeftOut, LeftOut, ...LeftOut[]];
  return [{ from: first.from, to: second.to, count: first.count + second.count }, ...rest];
}

/**
 * A contract that is read again from a block on: what was left out from there on is counted again. When only a part that
 * begins earlier is known, it is read again from the beginning of that part.
 */
export function rewound(source: Source, next: number): Source {
  const { leftOut, ...rest } = source;
  if (leftOut === undefined) return { ...rest, next };
  const kept = leftOut.filter(({ to }) => to < next);
  const first = leftOut[kept.length];
  return {
    ...rest,
    next: first === undefined ? next : Math.min(next, first.from),
    ...(kept.length === 0 ? {} : { leftOut: kept }),
  };
}

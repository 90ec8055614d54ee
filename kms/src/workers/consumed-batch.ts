import type { Consumed } from '../limits/rate-limits.ts';

/** Collects what one turn of the event loop takes of the rate limits, a sum for each name, and tells it at its end. */
export function consumedBatch(tell: (taken: Consumed[]) => void): (...taken: Consumed) => void {
  let sums = new Map<string, Consumed>();
  const flush = (): void => {
    const taken = [...sums.values()].filter(([, , tokens]) => tokens !== 0);
    sums = new Map();
    if (taken.length > 0) tell(taken);
  };
  return (limit, name, tokens) => {
    if (sums.size === 0) setImmediate(flush);
    const key = `${limit} ${name}`;
    sums.set(key, [limit, name, (sums.get(key)?.[2] ?? 0) + tokens]);
  };
}

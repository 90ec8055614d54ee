/**
 * Shares one asynchronous result among all callers of the next `reuseMs` milliseconds, and among those who ask while
 * it is under way. Failures are shared only with those who were already waiting.
 */
export function sharedFor<T>(reuseMs: number, ask: () => Promise<T>): () => Promise<T> {
  let latest: { promise: Promise<T>; until: number } | undefined;
  return () => {
    if (latest && performance.now() < latest.until) return latest.promise;
    const promise = ask();
    const mine = { promise, until: Number.POSITIVE_INFINITY };
    latest = mine;
    promise.then(
      () => {
        mine.until = performance.now() + reuseMs;
      },
      () => {
        if (latest === mine) latest = undefined;
      },
    );
    return promise;
  };
}

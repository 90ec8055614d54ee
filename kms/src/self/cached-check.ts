/** How long a good and a bad result are reused. */
export type CachedFor = { readonly goodMs: number; readonly badMs: number };

/**
 * A check whose result holds for a while, however often it is asked for; one run at a time.
 * @param clock milliseconds that never go back
 */
export function cachedCheck(
  check: () => Promise<unknown>,
  { goodMs, badMs }: CachedFor,
  clock: () => number = () => performance.now(),
): () => Promise<void> {
  let last: { readonly until: number; readonly error?: unknown } | undefined;
  let running: Promise<void> | undefined;

  const run = (): Promise<void> =>
    check()
      .then(
        () => {
          last = { until: clock() + goodMs };
        },
        (error: unknown) => {
          last = { until: clock() + badMs, error };
          throw error;
        },
      )
      .finally(() => {
        running = undefined;
      });

  return async () => {
    if (last !== undefined && clock() < last.until) {
      if ('error' in last) throw last.error;
      return;
    }
    running ??= run();
    await running;
  };
}

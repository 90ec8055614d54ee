import { type HttpTransport, http } from 'viem';

const TIMEOUT_MS = 20_000;

/**
 * The endpoint itself, and no other that it names: what it is asked to relay is meant for it.
 * @param timeoutMs for one exchange, which is tried twice
 * @param signal ends what is asked, and everything that would be asked later
 */
export function rpcTransport(
  url: string,
  {
    timeoutMs = TIMEOUT_MS,
    signal,
  }: { timeoutMs?: number | undefined; signal?: AbortSignal | undefined } = {},
): HttpTransport {
  return http(url, {
    ...{ timeout: timeoutMs, retryCount: 1, fetchOptions: { redirect: 'error' } },
    ...(signal && {
      fetchFn: async (input, init) => {
        signal.throwIfAborted();
        const both = init?.signal == null ? signal : AbortSignal.any([init.signal, signal]);
        return await fetch(input, { ...init, signal: both });
      },
    }),
  });
}

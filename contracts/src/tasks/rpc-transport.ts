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
    fetchFn: async (input, init) => {
      signal?.throwIfAborted();
      const signals = [init?.signal, signal].filter((one) => one != null);
      const answer = await fetch(input, {
        ...init,
        signal: signals.length > 1 ? AbortSignal.any(signals) : (signals[0] ?? null),
      });
      if (!answer.headers.has('retry-after')) return answer;
      // How long to wait would be the endpoint's choice: hours, if it wants.
      const headers = new Headers(answer.headers);
      headers.delete('retry-after');
      return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
    },
  });
}

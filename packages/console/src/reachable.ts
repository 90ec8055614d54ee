import { request as plainRequest } from 'node:http';
import { request } from 'node:https';

const TIMEOUT_MS = 5_000;

/**
 * Whether a service answers at an address. Its certificate is not checked: this says that something is there, and not what
 * it is, which `dstack-cloud verify` says.
 */
export async function reachable(
  url: string,
  timeoutMs: number = TIMEOUT_MS,
): Promise<{ readonly ok: boolean; readonly text: string }> {
  const start = url.startsWith('https:') ? request : plainRequest;
  return await new Promise((resolve) => {
    const failed = (text: string): void => resolve({ ok: false, text });
    try {
      // Of the whole: who sends a byte now and then would be waited for without end.
      const signal = AbortSignal.timeout(timeoutMs);
      const outgoing = start(url, { signal, rejectUnauthorized: false }, (response) => {
        const { statusCode = 0 } = response;
        // Nothing of the answer is wanted.
        response.destroy();
        if (statusCode >= 200 && statusCode < 400) resolve({ ok: true, text: 'answers' });
        else failed(`answers ${statusCode}`);
      });
      outgoing.once('error', (error: NodeJS.ErrnoException) =>
        failed(`does not answer (${signal.aborted ? 'timeout' : (error.code ?? error.message)})`),
      );
      outgoing.end();
    } catch {
      failed('has no usable address');
    }
  });
}

import { collectBytes } from '@dstack-cloud/runtime';

/** Largest answer that is read: an attestation with its event log has some 100 KiB. */
const MAX_BYTES = 8 * 1024 * 1024;
const TIMEOUT_MS = 15_000;

interface Request {
  readonly method?: string;
  readonly body?: string;
}

/** One bounded HTTP exchange with a JSON answer. Throws an Error that says what went wrong. */
export async function fetchJson(url: string, request: Request = {}): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(url, {
      method: request.method ?? 'GET',
      ...(request.body === undefined
        ? {}
        : { body: request.body, headers: { 'content-type': 'application/json' } }),
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    throw new Error(`${url}: ${reason(error)}`);
  }
  const text = await readBounded(response);
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text.slice(0, 300)}`);
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${url} did not answer with JSON`);
  }
}

async function readBounded({ body }: Response): Promise<string> {
  if (body === null) return '';
  const tooLarge = () => new Error('the answer is too large');
  return Buffer.from(await collectBytes(body, MAX_BYTES, tooLarge)).toString('utf8');
}

function reason(error: unknown): string {
  const cause = (error as { cause?: unknown }).cause;
  if (cause instanceof Error && cause.message !== '') return cause.message;
  const code = (cause as { code?: unknown } | undefined)?.code;
  if (typeof code === 'string') return code;
  return error instanceof Error ? error.message : String(error);
}

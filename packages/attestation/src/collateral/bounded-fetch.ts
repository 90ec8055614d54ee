import { utf8Text } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';

/** The part of `fetch` that is used: a test or a proxy can stand in. */
export type Fetch = (url: string, init: { signal: AbortSignal; redirect: 'manual' }) => Promise<Response>;

export interface Answer {
  readonly bytes: Uint8Array;
  readonly headers: Headers;
}

const MAX_BODY = 2 << 20;
const MAX_REDIRECTS = 3;

/**
 * GET with every bound that a foreign server needs: time by `signal`, 2 MiB of body, redirects within the same
 * origin only.
 * @throws AttestationError `collateral-unavailable`; `too-large` for a longer body
 */
export async function boundedGet(url: string, fetch: Fetch, signal: AbortSignal): Promise<Answer> {
  let target = new URL(url);
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    const response = await send(target, fetch, signal);
    if (response.status === 200)
      return { bytes: await readBody(response, target), headers: response.headers };
    await response.body?.cancel().catch(() => undefined);
    const next = redirectTarget(response, target);
    if (!next) throw unavailable(target, `HTTP ${response.status || 'redirect'}`);
    target = next;
  }
  throw unavailable(target, `more than ${MAX_REDIRECTS} redirects`);
}

/** As text; the body must be UTF-8. */
export function textOf(answer: Answer): string {
  return decoding('Collateral', () => utf8Text(answer.bytes));
}

async function send(target: URL, fetch: Fetch, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(target.href, { signal, redirect: 'manual' });
  } catch (cause) {
    throw unavailable(target, signal.aborted ? 'time-out' : 'no connection', cause);
  }
}

function redirectTarget(response: Response, from: URL): URL | undefined {
  const location = response.headers.get('location');
  if (response.status < 300 || response.status > 399 || !location) return undefined;
  if (!URL.canParse(location, from.href)) return undefined;
  const next = new URL(location, from.href);
  if (next.origin === from.origin) return next;
  throw unavailable(from, `redirect to another host (${next.host})`);
}

async function readBody(response: Response, target: URL): Promise<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      length += value.length;
      if (length > MAX_BODY) {
        await reader.cancel().catch(() => undefined);
        throw new AttestationError('too-large', `${target.href}: the answer exceeds ${MAX_BODY} bytes`);
      }
      chunks.push(value);
    }
  } catch (error) {
    if (error instanceof AttestationError) throw error;
    throw unavailable(target, 'the answer broke off', error);
  }
  const body = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.length;
  }
  return body;
}

function unavailable(target: URL, reason: string, cause?: unknown): AttestationError {
  return new AttestationError(
    'collateral-unavailable',
    `Collateral cannot be fetched: ${target.href}: ${reason}`,
    {
      found: reason,
      cause,
    },
  );
}

import { collectBytes } from '@dstack-cloud/runtime';
import { z } from 'zod';
import { CertbotError } from '../errors.ts';

const TIMEOUT_MS = 20_000;
const MAX_ANSWER = 4 * 2 ** 20;
/** As much of a refusal as is repeated. */
const MAX_TEXT = 300;
const MAX_TRIES = 4;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

export type JsonRequest = {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly url: string;
  /** Sent as it is and repeated in no error. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
};

/**
 * One exchange with the interface of a DNS provider. What is refused for now (429, 5xx) is asked again, when the provider says
 * so or after a pause; a redirect is not followed, since it would take the credential along.
 * @param what names the provider in errors
 * @throws CertbotError `dns-failed`
 */
export async function askJson<T>(what: string, request: JsonRequest, schema: z.ZodType<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    const answer = await once(what, request);
    if (answer.status >= 200 && answer.status < 300) return read(what, answer.text, schema);
    const isForNow = answer.status === 429 || answer.status >= 500;
    if (!isForNow || tries >= MAX_TRIES)
      throw failed(what, `HTTP ${answer.status}: ${answer.text.slice(0, MAX_TEXT)}`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs(answer.retryAfter, tries)));
  }
}

type Answer = { readonly status: number; readonly text: string; readonly retryAfter: string | null };

async function once(what: string, { method, url, headers, body }: JsonRequest): Promise<Answer> {
  try {
    const response = await fetch(url, {
      method,
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
      headers: { ...headers, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const tooLong = (): Error => new Error('the answer is too long');
    const bytes = response.body === null ? [] : await collectBytes(response.body, MAX_ANSWER, tooLong);
    const text = Buffer.from(bytes).toString('utf8');
    return { status: response.status, text, retryAfter: response.headers.get('retry-after') };
  } catch (cause) {
    const { message, cause: inner } = cause as Error;
    throw failed(what, inner instanceof Error ? `${message}: ${inner.message}` : message, cause);
  }
}

function read<T>(what: string, text: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(text === '' ? {} : JSON.parse(text));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll('\n', ' ') : 'not JSON';
    throw failed(what, `its answer cannot be read: ${why.slice(0, MAX_TEXT)}`, cause);
  }
}

/** RFC 9110 section 10.2.3, in seconds; a date is not waited for. */
function pauseMs(retryAfter: string | null, tries: number): number {
  const seconds = /^\d{1,4}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined;
  const wanted = seconds === undefined ? FIRST_PAUSE_MS * 2 ** (tries - 1) : seconds * 1000;
  return Math.min(wanted, LONGEST_PAUSE_MS);
}

function failed(what: string, why: string, cause?: unknown): CertbotError {
  return new CertbotError('dns-failed', `${what}: ${why}`, { cause });
}

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPlainRemote } from '@dstack-cloud/policy';
import { collectBytes } from '@dstack-cloud/runtime';
import type { Context } from '../../../context.ts';
import { CliError, messageOf } from '../../../errors.ts';
import { type Credentials, gcpCredentials } from './gcp-credentials.ts';
import { GcpError } from './gcp-error.ts';
import { sendBytes } from './send-bytes.ts';

const MAX_ANSWER = 16 * 1024 * 1024;
/** Google lets a wait for an operation last two minutes. */
const TIMEOUT_MS = 150_000;
const TRIES = 6;
const FIRST_PAUSE_MS = 250;

export interface GcpRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** JSON, or bytes as they are. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Statuses above 299 that are answers. */
  readonly accept?: readonly number[];
  /** How often it is tried; requests that change something carry an id, by which Google knows a repetition. */
  readonly tries?: number;
}

interface GcpAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly json: unknown;
}

/** Requests to Google with a token, tried again when that can help. */
export interface GcpSession {
  readonly context: Context;
  /** Ends with a slash. */
  readonly computeUrl: string;
  /** Ends with a slash. */
  readonly storageUrl: string;
  request(request: GcpRequest): Promise<GcpAnswer>;
}

/** @throws CliError `no_credentials` */
export async function openSession(context: Context): Promise<GcpSession> {
  const computeUrl = endpoint(context, 'COMPUTE', 'https://compute.googleapis.com/compute/v1/');
  const storageUrl = endpoint(context, 'STORAGE', 'https://storage.googleapis.com/');
  const credentials = await gcpCredentials(context);
  return {
    ...{ context, computeUrl, storageUrl },
    request: async (request) => await retried(context, credentials, request),
  };
}

/** An id by which Google knows that a request came before. */
export function newRequestId(): string {
  return randomUUID();
}

/** Pause before try number `count`, with some chance in it so that many do not come back at once. */
export async function pauseBefore({ signal }: Context, count: number): Promise<void> {
  if (count === 0) return;
  const longest = FIRST_PAUSE_MS * 2 ** (count - 1);
  await sleep(longest * (0.5 + Math.random() / 2), undefined, { signal });
}

/** Whether the same request can fare better a little later. */
export function isPassing({ status }: GcpError): boolean {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

async function retried(context: Context, credentials: Credentials, request: GcpRequest): Promise<GcpAnswer> {
  let renewed = false;
  for (let count = 0; ; count += 1) {
    await pauseBefore(context, count);
    try {
      return await once(context, await credentials.token(), request);
    } catch (error) {
      if (context.signal.aborted || !(error instanceof GcpError)) throw error;
      // A token can end between two requests, or be taken back.
      if (error.status === 401 && !renewed && credentials.renew()) {
        renewed = true;
        continue;
      }
      if (!isPassing(error) || count + 1 >= (request.tries ?? TRIES)) throw error;
      // Without the query: whoever has the id of an upload may write to it.
      context.debug(`${request.method} ${request.url.split('?')[0]}: ${error.message}; trying again`);
    }
  }
}

async function once(context: Context, token: string, request: GcpRequest): Promise<GcpAnswer> {
  const url = new URL(request.url);
  for (const [name, value] of Object.entries(request.query ?? {}))
    if (value !== undefined) url.searchParams.set(name, value);
  const { body } = request;
  const isBytes = body instanceof Uint8Array;
  let response: Response;
  let text: string;
  try {
    const signal = AbortSignal.any([context.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const { method } = request;
    const headers = {
      authorization: `Bearer ${token}`,
      ...(body === undefined || isBytes ? {} : { 'content-type': 'application/json' }),
      ...request.headers,
    };
    if (isBytes) response = await sendBytes(url, { method, headers, body, signal });
    else {
      const text = body === undefined ? {} : { body: JSON.stringify(body) };
      // 308 says that an upload goes on.
      response = await fetch(url, { method, headers, ...text, redirect: 'manual', signal });
    }
    text = await textOf(response);
  } catch (error) {
    if (context.signal.aborted || error instanceof GcpError) throw error;
    const { cause, code } = error as { code?: string; cause?: { code?: string; message?: string } };
    throw new GcpError(
      0,
      cause?.code ?? code ?? 'no answer',
      `${url.host}: ${cause?.message || messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
  const json = parse(text);
  const { status, headers } = response;
  if (status < 300 || request.accept?.includes(status)) {
    if (json === undefined && text !== '')
      throw new GcpError(502, 'badAnswer', `${url.host} did not answer with JSON`);
    return { status, headers, json };
  }
  throw errorOf(status, json, text);
}

async function textOf({ body }: Response): Promise<string> {
  if (body === null) return '';
  const tooLarge = (): Error => new GcpError(502, 'tooLarge', 'The answer is too large');
  return Buffer.from(await collectBytes(body, MAX_ANSWER, tooLarge)).toString('utf8');
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function errorOf(status: number, json: unknown, text: string): GcpError {
  const { error } = (json ?? {}) as { error?: { message?: unknown; errors?: { reason?: unknown }[] } };
  const message =
    typeof error?.message === 'string'
      ? error.message
      : text.slice(0, 300) || `Google answered with status ${status}`;
  const reason = error?.errors?.[0]?.reason;
  return new GcpError(status, typeof reason === 'string' ? reason : 'error', message);
}

/** Google's address, or the one that gcloud's variable names. A token goes over TLS, or stays on this computer. */
function endpoint({ env }: Context, api: string, google: string): string {
  const name = `CLOUDSDK_API_ENDPOINT_OVERRIDES_${api}`;
  const given = env[name];
  if (given === undefined || given === '') return google;
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || isPlainRemote(url))
    throw new CliError('bad_config', `${name} cannot be used`, {
      expected: 'an https address, or http on this computer',
      found: given,
    });
  return given.endsWith('/') ? given : `${given}/`;
}

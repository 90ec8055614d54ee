import { setTimeout as sleep } from 'node:timers/promises';
import { KmsError } from '../errors.ts';

/** The part of `fetch` that is used; a test can stand in. */
export type Fetch = (
  url: string,
  init: { signal: AbortSignal; redirect: 'manual'; headers: Record<string, string> },
) => Promise<Response>;

export type DownloadOptions = {
  readonly fetch: Fetch;
  readonly maxBytes: number;
  /** Ends the download. */
  readonly signal: AbortSignal;
};

const MAX_REDIRECTS = 5;
const MAX_BREAKS = 8;
const PAUSE_MS = 200;

/**
 * The bytes of a file on a web server. A transfer that breaks off is taken up where it ended (RFC 9110 section 14),
 * at most eight times. Redirects are followed within the same origin, and from http to https of the same host: they lead
 * to no service that the configuration does not name.
 * @throws KmsError `image-unavailable`; `image-invalid` above `maxBytes`
 */
export async function* download(url: string, options: DownloadOptions): AsyncGenerator<Uint8Array> {
  let received = 0;
  for (let breaks = 0; ; breaks++) {
    const answer = await attempt(url, received, options);
    if (answer !== undefined) {
      const { body, total } = answer;
      // A server without ranges starts again: what is known already is passed over.
      let skip = answer.from === 0 ? received : 0;
      try {
        for (;;) {
          const part = await nextPart(body, options.signal);
          if (part === 'broken') break;
          if (part === 'end') {
            if (total === undefined || received >= total) return;
            break;
          }
          const fresh = part.subarray(Math.min(skip, part.length));
          skip -= part.length - fresh.length;
          received += fresh.length;
          if (received > options.maxBytes) throw tooLarge(options.maxBytes);
          if (fresh.length > 0) yield fresh;
        }
      } finally {
        await body.cancel().catch(() => undefined);
      }
    }
    if (breaks >= MAX_BREAKS) throw unavailable('the transfer breaks off again and again');
    await sleep(PAUSE_MS * (breaks + 1), undefined, { signal: options.signal });
  }
}

type Answer = {
  readonly body: ReadableStreamDefaultReader<Uint8Array>;
  readonly from: number;
  /** Size of the file, if the server says so. */
  readonly total: number | undefined;
};

/** @returns undefined when a transfer under way could not be taken up this time */
async function attempt(url: string, from: number, options: DownloadOptions): Promise<Answer | undefined> {
  const response = await get(url, from, options);
  if (response === undefined) return undefined;
  const encoding = response.headers.get('content-encoding');
  if (encoding !== null && encoding !== 'identity') throw unavailable(`content-encoding ${encoding}`);
  const { status, body } = response;
  if ((status === 200 || (status === 206 && from > 0)) && body !== null) {
    if (status === 200) return { body: body.getReader(), from: 0, total: lengthOf(response) };
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
    if (Number(range?.[1]) === from) {
      const total = range![2] === '*' ? undefined : Number(range![2]);
      return { body: body.getReader(), from, total };
    }
  }
  await body?.cancel().catch(() => undefined);
  if (from > 0 && status >= 500) return undefined;
  const text = response.statusText === '' ? String(status) : `${status} ${response.statusText}`;
  throw unavailable(`HTTP status ${text}`);
}

async function get(
  url: string,
  from: number,
  { fetch, signal }: DownloadOptions,
): Promise<Response | undefined> {
  const headers = {
    'Accept-Encoding': 'identity',
    ...(from > 0 && { Range: `bytes=${from}-` }),
  };
  let target = new URL(url);
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    let response: Response;
    try {
      response = await fetch(target.href, { signal, redirect: 'manual', headers });
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      if (from > 0) return undefined;
      throw unavailable('no connection', cause);
    }
    const location = response.headers.get('location');
    if (response.status < 300 || response.status > 399 || location === null) return response;
    await response.body?.cancel().catch(() => undefined);
    if (!URL.canParse(location, target.href)) throw unavailable('redirect to no address');
    const next = new URL(location, target.href);
    if (next.origin !== target.origin && !isUpgrade(target, next))
      throw unavailable('redirect to another host');
    target = next;
  }
  throw unavailable(`more than ${MAX_REDIRECTS} redirects`);
}

/** To https on the default ports of one host. What is downloaded is checked by its hash, on either. */
function isUpgrade(from: URL, to: URL): boolean {
  const isSameHost = from.hostname === to.hostname && from.port === '' && to.port === '';
  return isSameHost && from.protocol === 'http:' && to.protocol === 'https:';
}

async function nextPart(body: Answer['body'], signal: AbortSignal): Promise<Uint8Array | 'end' | 'broken'> {
  try {
    const { done, value } = await body.read();
    return done ? 'end' : value;
  } catch {
    if (signal.aborted) throw signal.reason;
    return 'broken';
  }
}

function lengthOf(response: Response): number | undefined {
  const length = response.headers.get('content-length');
  return length !== null && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}

function tooLarge(maxBytes: number): KmsError {
  return new KmsError('image-invalid', `Failed to download image: larger than ${maxBytes} bytes`);
}

function unavailable(reason: string, cause?: unknown): KmsError {
  return new KmsError('image-unavailable', `Failed to download image: ${reason}`, { cause });
}

import { createHash } from 'node:crypto';
import { CliError } from '../../../errors.ts';
import { GcpError } from './gcp-error.ts';
import { type GcpSession, isPassing, pauseBefore } from './gcp-session.ts';
import type { GcpObject } from './storage-api.ts';

/** Cloud Storage takes chunks of multiples of 256 KiB; a larger one loses more when the connection breaks. */
const CHUNK = 8 * 1024 * 1024;
const TRIES = 6;
const SESSIONS = 3;

/** Remembers an upload, so that another run of the program goes on with it. */
export interface UploadRecord {
  load(): Promise<string | undefined>;
  save(sessionUrl: string): Promise<void>;
  forget(): Promise<void>;
}

export interface Upload {
  readonly bucket: string;
  readonly name: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** The same bytes at each call: what Google has already is read over. */
  readonly content: () => AsyncIterable<Uint8Array>;
  readonly record?: UploadRecord;
  readonly onProgress?: (bytes: number) => void;
}

/**
 * A resumable upload (https://cloud.google.com/storage/docs/performing-resumable-uploads): goes on after broken connections,
 * errors that pass, tokens that end and, with a record, after the end of the program. What Google then has is compared with
 * what was sent.
 */
export async function uploadObject(session: GcpSession, upload: Upload): Promise<void> {
  for (let count = 1; ; count += 1) {
    try {
      return await uploadOnce(session, upload);
    } catch (error) {
      if (!(error instanceof SessionLost) || count >= SESSIONS) throw error;
      await upload.record?.forget();
      session.context.debug(`${upload.name}: ${error.message}; starting again`);
    }
  }
}

class SessionLost extends GcpError {}

async function uploadOnce(session: GcpSession, upload: Upload): Promise<void> {
  const { record } = upload;
  const known = await record?.load();
  const url = known ?? (await begin(session, upload));
  if (known === undefined) await record?.save(url);
  requireOwnUrl(session, url);
  let state = known === undefined ? { received: 0, done: undefined } : await ask(session, url);
  if (state.received > 0) session.context.info(`Going on with the upload at ${megabytes(state.received)}`);
  const md5 = createHash('md5');
  let position = 0;
  for await (const { chunk, isLast } of oneAhead(chunks(upload.content()))) {
    md5.update(chunk);
    const end = position + chunk.length;
    if (state.done === undefined) {
      if (end > state.received || isLast)
        state = await sendChunk(session, url, chunk, position, state.received, isLast ? String(end) : '*');
      upload.onProgress?.(Math.max(end, state.received));
    }
    position = end;
  }
  if (state.done === undefined) throw new SessionLost(502, 'badAnswer', 'The upload has no end');
  await record?.forget();
  const { md5Hash, size } = state.done;
  const wanted = md5.digest('base64');
  // What an earlier run sent may come from another version of the compressor.
  if (md5Hash !== wanted || size !== String(position))
    throw new SessionLost(
      502,
      'checksum',
      `Google has other bytes than were sent (${size} instead of ${position})`,
    );
}

interface Received {
  readonly received: number;
  readonly done: GcpObject | undefined;
}

async function begin(session: GcpSession, { bucket, name, metadata }: Upload): Promise<string> {
  const answer = await session.request({
    method: 'POST',
    url: `${session.storageUrl}upload/storage/v1/b/${encodeURIComponent(bucket)}/o`,
    query: { uploadType: 'resumable', name },
    body: { metadata },
    headers: { 'x-upload-content-type': 'application/gzip' },
  });
  const url = answer.headers.get('location');
  if (url === null) throw new GcpError(502, 'badAnswer', 'The upload has no address');
  return url;
}

/** The bytes behind what Google has, until it has them. */
async function sendChunk(
  session: GcpSession,
  url: string,
  chunk: Uint8Array,
  position: number,
  from: number,
  total: string,
): Promise<Received> {
  const end = position + chunk.length;
  let received = Math.max(from, position);
  for (let count = 0; ; count += 1) {
    try {
      if (count > 0) {
        await pauseBefore(session.context, count);
        const state = await ask(session, url);
        if (state.done !== undefined) return state;
        if (state.received < position) throw new SessionLost(502, 'badAnswer', 'Google lost what it had');
        // What went on is no failure: a slow line breaks often.
        if (state.received > received) count = 0;
        received = state.received;
        if (received >= end && total === '*') return state;
      }
      const range = received < end ? `bytes ${received}-${end - 1}/${total}` : `bytes */${total}`;
      const state = await put(session, url, range, chunk.subarray(received - position));
      if (state.done !== undefined || (state.received >= end && total === '*')) return state;
      received = Math.max(received, state.received);
    } catch (error) {
      if (!(error instanceof GcpError) || error instanceof SessionLost || !isPassing(error)) throw error;
      if (count + 1 >= TRIES) throw error;
      session.context.debug(`Upload: ${error.message}; trying again`);
    }
  }
}

async function ask(session: GcpSession, url: string): Promise<Received> {
  return await put(session, url, 'bytes */*', undefined);
}

async function put(
  session: GcpSession,
  url: string,
  range: string,
  body: Uint8Array | undefined,
): Promise<Received> {
  let answer: Awaited<ReturnType<GcpSession['request']>>;
  try {
    const headers = { 'content-range': range };
    const rest = body === undefined || body.length === 0 ? {} : { body };
    // Bytes are never sent twice without asking how many arrived.
    answer = await session.request({
      method: 'PUT',
      url,
      headers,
      accept: [308],
      tries: body ? 1 : TRIES,
      ...rest,
    });
  } catch (error) {
    if (error instanceof GcpError && (error.status === 404 || error.status === 410))
      throw new SessionLost(error.status, error.reason, error.message);
    throw error;
  }
  if (answer.status !== 308) {
    const done = answer.json as GcpObject;
    return { received: Number(done.size), done };
  }
  const last = /^bytes=0-(\d+)$/.exec(answer.headers.get('range') ?? '')?.[1];
  return { received: last === undefined ? 0 : Number(last) + 1, done: undefined };
}

interface Chunk {
  readonly chunk: Uint8Array;
  readonly isLast: boolean;
}

/** The next chunk is made while one is sent. */
async function* oneAhead(all: AsyncGenerator<Chunk>): AsyncGenerator<Chunk> {
  let next = all.next();
  try {
    for (;;) {
      const { value, done } = await next;
      if (done === true) return;
      next = all.next();
      // A failure of the next one is told when its turn comes.
      next.catch(() => undefined);
      yield value;
    }
  } finally {
    await next.catch(() => undefined);
    await all.return(undefined);
  }
}

/** Pieces of one size, but for the last. */
async function* chunks(content: AsyncIterable<Uint8Array>): AsyncGenerator<Chunk> {
  // Two for all: a chunk has arrived before the one after the next is asked for.
  const buffers = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)] as const;
  let [buffer, other] = buffers;
  let length = 0;
  for await (const piece of content) {
    let rest = piece;
    while (rest.length > 0) {
      // A full one waits until it is known that there is more.
      if (length === CHUNK) {
        yield { chunk: buffer, isLast: false };
        [buffer, other] = [other, buffer];
        length = 0;
      }
      const part = rest.subarray(0, CHUNK - length);
      buffer.set(part, length);
      length += part.length;
      rest = rest.subarray(part.length);
    }
  }
  yield { chunk: buffer.subarray(0, length), isLast: true };
}

/** A token goes to no other host, whatever a file or an answer says. */
function requireOwnUrl({ storageUrl }: GcpSession, url: string): void {
  if (URL.canParse(url) && new URL(url).origin === new URL(storageUrl).origin) return;
  throw new CliError('cloud_refused', 'The address of the upload is at another host', {
    expected: new URL(storageUrl).origin,
    found: url.slice(0, 200),
  });
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

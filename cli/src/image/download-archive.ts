import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, rm, stat } from 'node:fs/promises';
import { writeFileAtomic } from '@dstack-cloud/app';
import { isThere } from '@dstack-cloud/files';
import type { Context } from '../context.ts';
import { CliError, messageOf } from '../errors.ts';

const MAX_BYTES = 16 * 1024 ** 3;
const SILENCE_MS = 60_000;
const STEP = 64 * 1024 * 1024;

/**
 * Downloads a file to `path`; what an interrupted run left there is gone on with when the server still has the same file, by
 * its entity tag (RFC 9110 section 13.1.5).
 */
export async function downloadArchive(context: Context, url: URL, path: string): Promise<void> {
  const tagPath = `${path}.etag`;
  const tag = isThere(tagPath) && isThere(path) ? (await readFile(tagPath, 'utf8')).trim() : '';
  const have = tag === '' ? 0 : (await stat(path)).size;
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const response = await fetch(url, {
      headers: have === 0 ? {} : { range: `bytes=${have}-`, 'if-range': tag },
      signal: AbortSignal.any([context.signal, silence.signal]),
    });
    // All of it is here: there is nothing behind its end.
    if (response.status === 416 && have > 0) return void (await response.body?.cancel());
    const start = response.status === 206 ? startOf(response, have) : 0;
    if (response.status !== 200 && response.status !== 206) {
      await response.body?.cancel();
      throw new CliError('unreachable', `${url} answers ${response.status}`, {
        hint: response.status === 404 ? 'Check the name and the version of the image' : 'Try again later',
      });
    }
    const length = response.headers.get('content-length');
    const total = length === null ? undefined : start + Number(length);
    if (start > 0) context.info(`Going on at ${megabytes(start)}`);
    const etag = response.headers.get('etag') ?? '';
    // A weak tag does not say that the bytes are the same.
    if (etag.startsWith('"')) await writeFileAtomic(tagPath, etag);
    else await rm(tagPath, { force: true });
    const file = await open(path, start > 0 ? 'r+' : 'w', 0o600);
    let position = start;
    try {
      await file.truncate(start);
      for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        if (position + chunk.length > MAX_BYTES)
          throw new CliError('refused', `${url} is larger than 16 GiB`);
        await file.write(chunk, 0, chunk.length, position);
        if (Math.floor(position / STEP) !== Math.floor((position + chunk.length) / STEP))
          context.info(
            `  ${megabytes(position + chunk.length)}${total === undefined ? '' : ` of ${megabytes(total)}`}`,
          );
        position += chunk.length;
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (total !== undefined && position !== total)
      throw new CliError('unreachable', `${url} ended after ${position} of ${total} bytes`, {
        hint: 'Run the same command again: it goes on where it was',
      });
    await rm(tagPath, { force: true });
  } catch (error) {
    if (error instanceof CliError || context.signal.aborted) throw error;
    const { cause } = error as { cause?: { message?: string } };
    throw new CliError('unreachable', `${url}: ${cause?.message ?? messageOf(error)}`, {
      hint: 'Run the same command again: it goes on where it was',
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}

/** SHA-256 of a file, hex. */
export async function fileHash(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

function startOf(response: Response, asked: number): number {
  const range = response.headers.get('content-range') ?? '';
  if (range.startsWith(`bytes ${asked}-`)) return asked;
  throw new CliError('unreachable', 'The server sent another part than it was asked for', { found: range });
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

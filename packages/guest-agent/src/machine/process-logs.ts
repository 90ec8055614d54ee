import { closeSync, fstatSync, read } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { openOwnFile } from '@dstack-cloud/files';
import type { LogChunk, LogQuery } from './containers.ts';

const readBytes = promisify(read);
const POLL_MS = 250;
const CHUNK = 64 * 1024;
/** The last lines are looked for in this much of the file's end. */
const TAIL_BYTES = 1024 * 1024;

/** Logs that the runner writes for plain processes; they carry no times, so `since` and `until` do not apply. */
export class ProcessLogs {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Output of one service, line by line; `name` must have been checked. @throws Error when it has no log */
  async *logs(name: string, query: LogQuery, signal: AbortSignal): AsyncGenerator<LogChunk> {
    const path = join(this.#directory, `${name}.log`);
    const file = openLog(path, name);
    try {
      let position = yield* tail(file, query.tail);
      while (query.follow && !signal.aborted) {
        const { size } = fstatSync(file);
        if (size > position) position = yield* between(file, position, size);
        await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      closeSync(file);
    }
  }
}

/** A service can write into this folder too: a link is not followed, a FIFO not waited for. */
function openLog(path: string, name: string): number {
  try {
    return openOwnFile(path, 'read');
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new Error(isMissing ? `No such container: ${name}` : `The log of ${name} cannot be read`, {
      cause,
    });
  }
}

async function* tail(file: number, lines: string): AsyncGenerator<LogChunk, number> {
  const { size } = fstatSync(file);
  if (lines === 'all') return yield* between(file, 0, size);
  const start = Math.max(0, size - TAIL_BYTES);
  const bytes = Buffer.alloc(size - start);
  const { bytesRead } = await readBytes(file, bytes, 0, bytes.length, start);
  yield* split(lastLines(bytes.subarray(0, bytesRead), Number(lines)));
  return start + bytesRead;
}

function lastLines(bytes: Buffer, count: number): Buffer {
  let end = bytes.length - 1;
  for (let left = count; left > 0 && end >= 0; left--) end = end === 0 ? -1 : bytes.lastIndexOf(10, end - 1);
  return count === 0 ? bytes.subarray(bytes.length) : bytes.subarray(end + 1);
}

async function* between(file: number, from: number, to: number): AsyncGenerator<LogChunk, number> {
  let position = from;
  while (position < to) {
    const bytes = Buffer.alloc(Math.min(CHUNK, to - position));
    const { bytesRead } = await readBytes(file, bytes, 0, bytes.length, position);
    if (bytesRead === 0) break;
    position += bytesRead;
    yield* split(bytes.subarray(0, bytesRead));
  }
  return position;
}

function* split(bytes: Buffer): Generator<LogChunk> {
  let start = 0;
  while (start < bytes.length) {
    const newline = bytes.indexOf(10, start);
    const end = newline < 0 ? bytes.length : newline + 1;
    yield { channel: 'stdout', bytes: bytes.subarray(start, end) };
    start = end;
  }
}

import { closeSync, fstatSync, readSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openOwnFile } from '@dstack-cloud/files';
import { VmmError } from './errors.ts';
import { lineSplitter } from './log-file.ts';
import { asVmmErrors } from './machine-folder.ts';
import { cvmPaths } from './paths.ts';

const FOLLOW_POLL_MS = 250;
/** The last lines are looked for in this much of the file's end. */
const TAIL_BYTES = 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;

export interface LogOptions {
  /** One container (service) instead of the serial console. */
  readonly container?: string;
  /** What of the host's own programs instead: QEMU, or the supervisor. */
  readonly channel?: 'serial' | 'qemu' | 'supervisor';
  /** Last so many lines; 0 for none. */
  readonly lines: number;
}

/** Path of the log asked for. Throws `not_found` with the names that exist. */
export async function cvmLogPath(
  dir: string,
  { container, channel = 'serial' }: Pick<LogOptions, 'container' | 'channel'>,
): Promise<string> {
  const paths = cvmPaths(dir);
  if (container === undefined)
    return channel === 'serial' ? paths.serial : join(paths.logs, `${channel}.log`);
  const entries = await readdir(paths.containerLogs).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const names = entries.filter((name) => name.endsWith('.log')).map((name) => name.slice(0, -'.log'.length));
  if (!names.includes(container))
    throw new VmmError(
      'not_found',
      `There is no container ${container}; known: ${names.length === 0 ? 'none' : names.sort().join(', ')}`,
    );
  return join(paths.containerLogs, `${container}.log`);
}

/** The last lines of a machine's log. */
export async function cvmLogs(dir: string, options: LogOptions): Promise<string[]> {
  const path = await cvmLogPath(dir, options);
  return await asVmmErrors(dir, async () => tail(path, options.lines).lines);
}

/** Follows a machine's log until `signal` fires; a log that was moved aside is read on from its start. */
export async function followCvmLogs(
  dir: string,
  options: LogOptions,
  onLine: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const path = await cvmLogPath(dir, options);
  await asVmmErrors(dir, async () => {
    const start = tail(path, options.lines);
    for (const line of start.lines) onLine(line);
    let offset = start.end;
    const splitter = lineSplitter(onLine);
    while (!signal.aborted) {
      offset = readOn(path, offset, (chunk) => splitter.write(chunk));
      await sleep(FOLLOW_POLL_MS, undefined, { signal }).catch(() => undefined);
    }
  });
}

function tail(path: string, lines: number): { lines: string[]; end: number } {
  return withLog(path, { lines: [], end: 0 }, (file, size) => {
    const length = Math.min(size, TAIL_BYTES);
    const buffer = Buffer.alloc(length);
    const read = readSync(file, buffer, 0, length, size - length);
    const all = buffer.toString('utf8', 0, read).split('\n');
    if (length < size) all.shift();
    if (all.at(-1) === '') all.pop();
    return { lines: lines === 0 ? [] : all.slice(-lines), end: size };
  });
}

/** Hands on what was appended since `offset`; the new one. */
function readOn(path: string, offset: number, onChunk: (chunk: Uint8Array) => void): number {
  return withLog(path, 0, (file, size) => {
    let position = size < offset ? 0 : offset;
    while (position < size) {
      const buffer = Buffer.alloc(Math.min(CHUNK_BYTES, size - position));
      const read = readSync(file, buffer, 0, buffer.length, position);
      if (read === 0) break;
      onChunk(buffer.subarray(0, read));
      position += read;
    }
    return position;
  });
}

/** A log that is not there is empty; one that is a link, a FIFO or another user's is an error. */
function withLog<T>(path: string, empty: T, use: (file: number, size: number) => T): T {
  let file: number;
  try {
    file = openOwnFile(path, 'read');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return empty;
    throw error;
  }
  try {
    return use(file, fstatSync(file).size);
  } finally {
    closeSync(file);
  }
}

import { closeSync, fstatSync, readSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openOwnFile } from '@dstack-cloud/files';
import { VmmError } from '../errors.ts';
import { asVmmErrors } from '../folder/machine-folder.ts';
import { cvmPaths } from '../manifest/paths.ts';
import { LOG_MAX_BYTES, lineSplitter } from './log-file.ts';

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
    let position: Position = start;
    const splitter = lineSplitter((line) => signal.aborted || onLine(line));
    while (!signal.aborted) {
      position = readOn(path, position, (chunk) => splitter.write(chunk));
      await sleep(FOLLOW_POLL_MS, undefined, { signal }).catch(() => undefined);
    }
  });
}

/** How far a log was read: which file it was, since a log is moved aside when it is full. */
type Position = { readonly file: bigint | undefined; readonly end: number };

function tail(path: string, lines: number): Position & { readonly lines: string[] } {
  return withLog<ReturnType<typeof tail>>(
    path,
    { lines: [], file: undefined, end: 0 },
    (log, { ino, size }) => {
      const length = Math.min(size, TAIL_BYTES);
      const buffer = Buffer.alloc(length);
      const read = readSync(log, buffer, 0, length, size - length);
      const all = buffer.toString('utf8', 0, read).split('\n');
      if (length < size) all.shift();
      if (all.at(-1) === '') all.pop();
      return { lines: lines === 0 ? [] : all.slice(-lines), file: ino, end: size };
    },
  );
}

/** Hands on what was written since; how far that was. */
function readOn(path: string, since: Position, onChunk: (chunk: Uint8Array) => void): Position {
  return withLog<Position>(path, { file: undefined, end: 0 }, (log, { ino, size }) => {
    const isSame = since.file === ino && size >= since.end;
    if (!isSame && since.file !== undefined && since.file !== ino) readRest(`${path}.1`, since, onChunk);
    readRange(log, isSame ? since.end : 0, size, onChunk);
    return { file: ino, end: size };
  });
}

/** The end of a log that was moved aside after it was read last. */
function readRest(path: string, { file, end }: Position, onChunk: (chunk: Uint8Array) => void): void {
  withLog(path, undefined, (log, { ino, size }) => {
    if (ino === file) readRange(log, end, size, onChunk);
  });
}

/** Of more than a log can hold only the end: whatever stands in a log's place must not keep the process busy. */
function readRange(log: number, from: number, to: number, onChunk: (chunk: Uint8Array) => void): void {
  let position = Math.max(from, to - LOG_MAX_BYTES);
  if (position > from) onChunk(Buffer.from(`\n[host] ${position - from} bytes are left out\n`));
  while (position < to) {
    const buffer = Buffer.alloc(Math.min(CHUNK_BYTES, to - position));
    const read = readSync(log, buffer, 0, buffer.length, position);
    if (read === 0) break;
    onChunk(buffer.subarray(0, read));
    position += read;
  }
}

/** A log that is not there is empty; one that is a link, a FIFO or another user's is an error. */
function withLog<T>(
  path: string,
  empty: T,
  use: (file: number, status: { readonly ino: bigint; readonly size: number }) => T,
): T {
  let file: number;
  try {
    file = openOwnFile(path, 'read');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return empty;
    throw error;
  }
  try {
    const { ino, size } = fstatSync(file, { bigint: true });
    return use(file, { ino, size: Number(size) });
  } finally {
    closeSync(file);
  }
}

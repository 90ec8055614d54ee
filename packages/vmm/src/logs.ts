import { createReadStream } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmmError } from './errors.ts';
import { lineSplitter } from './log-file.ts';
import { cvmPaths } from './paths.ts';

const FOLLOW_POLL_MS = 250;
/** The last lines are looked for in this much of the file's end. */
const TAIL_BYTES = 1024 * 1024;

export interface LogOptions {
  /** One container (service) instead of the serial console. */
  readonly container?: string;
  /** Last so many lines; 0 for none. */
  readonly lines: number;
}

/** Path of the log asked for. Throws `not_found` with the names that exist. */
export async function cvmLogPath(dir: string, container: string | undefined): Promise<string> {
  const paths = cvmPaths(dir);
  if (container === undefined) return paths.serial;
  const names = (await readdir(paths.containerLogs).catch(() => []))
    .filter((name) => name.endsWith('.log'))
    .map((name) => name.slice(0, -'.log'.length));
  if (!names.includes(container))
    throw new VmmError(
      'not_found',
      `There is no container ${container}; known: ${names.length === 0 ? 'none' : names.sort().join(', ')}`,
    );
  return join(paths.containerLogs, `${container}.log`);
}

/** The last lines of a machine's log. */
export async function cvmLogs(dir: string, options: LogOptions): Promise<string[]> {
  return (await tail(await cvmLogPath(dir, options.container), options.lines)).lines;
}

/** Follows a machine's log until `signal` fires; a log that was moved aside is read on from its start. */
export async function followCvmLogs(
  dir: string,
  options: LogOptions,
  onLine: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const path = await cvmLogPath(dir, options.container);
  const start = await tail(path, options.lines);
  for (const line of start.lines) onLine(line);
  let offset = start.end;
  const splitter = lineSplitter(onLine);
  while (!signal.aborted) {
    const size = await stat(path).then(
      (info) => info.size,
      () => 0,
    );
    if (size < offset) offset = 0;
    if (size > offset) {
      for await (const chunk of createReadStream(path, { start: offset, end: size - 1 }))
        splitter.write(chunk as Uint8Array);
      offset = size;
    }
    await sleep(FOLLOW_POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function tail(path: string, lines: number): Promise<{ lines: string[]; end: number }> {
  const file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return { lines: [], end: 0 };
  try {
    const { size } = await file.stat();
    const length = Math.min(size, TAIL_BYTES);
    const buffer = Buffer.alloc(length);
    await file.read(buffer, 0, length, size - length);
    const all = buffer.toString('utf8').split('\n');
    if (length < size) all.shift();
    if (all.at(-1) === '') all.pop();
    return { lines: lines === 0 ? [] : all.slice(-lines), end: size };
  } finally {
    await file.close();
  }
}

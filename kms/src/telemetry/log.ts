import { printableLog } from '@dstack-cloud/encoding';
import { boundedLines } from '@dstack-cloud/prpc';
import { type DestinationStream, type Logger, pino } from 'pino';
import { DescriptorOutput } from './descriptor-output.ts';
import { LineBuffer } from './line-buffer.ts';

/** JSON lines with the documented messages. */
export type Log = Logger;

/** Fields under which a secret could be logged by mistake. */
const REDACT = ['token', 'auth_token', 'key', 'k256', 'privateKey', 'authorization', 'quote', 'body'];

const STDOUT = 1;
/** Lines are written in pieces of so many bytes: each is a system call. */
const PIECE_BYTES = 65_536;
/** A pipe takes at most 4096 bytes as one (POSIX PIPE_BUF): with more, lines of processes that share it would mix. */
const SHARED_PIECE_BYTES = 4096;
/** The longest time for which a line waits for others. */
const FLUSH_MS = 100;

export type LogOptions = {
  /** In each line, beside the name of the service. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Whether other processes write to the same output. */
  readonly isShared?: boolean;
};

/**
 * The service's logger. Lines are written several at a time and without waiting for who reads them, so that neither their
 * number nor a slow reader of the log slows the release of keys; what is pending is flushed when the process ends. What
 * strangers can have written is bounded: see `boundedLines`.
 */
export function createLog(
  level: string,
  destination?: DestinationStream,
  { fields = {}, isShared = false }: LogOptions = {},
): Log {
  const { hooks, flush } = boundedLines();
  const options = { level, base: { service: 'dstack-kms', ...fields }, redact: REDACT, hooks };
  if (destination !== undefined) return pino(options, printableLog(destination));
  const maxWrite = isShared ? SHARED_PIECE_BYTES : PIECE_BYTES;
  const output = new DescriptorOutput(STDOUT, (count) => {
    const line = { level: pino.levels.values['warn'], time: Date.now(), ...options.base, lines: count };
    return `${JSON.stringify({ ...line, msg: 'log lines lost' })}\n`;
  });
  const lines = new LineBuffer(output, maxWrite);
  setInterval(() => lines.flush(), FLUSH_MS).unref();
  flushAtExit({
    flushSync: () => {
      flush();
      lines.flushSync();
    },
  });
  return pino(options, printableLog(lines));
}

type Pending = Pick<LineBuffer, 'flushSync'>;

const buffers = new Set<Pending>();

function flushAtExit(lines: Pending): void {
  if (buffers.size === 0) process.on('exit', flushAll);
  buffers.add(lines);
}

function flushAll(): void {
  for (const lines of buffers) {
    try {
      lines.flushSync();
    } catch {
      // Nobody reads any more.
    }
  }
}

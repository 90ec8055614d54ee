import { type DestinationStream, type Logger, pino } from 'pino';

/** JSON lines with the documented messages (chapter 10 section 7.5). */
export type Log = Logger;

/** Fields under which a secret could be logged by mistake. */
const REDACT = ['token', 'auth_token', 'key', 'k256', 'privateKey', 'authorization', 'quote', 'body'];

/** Lines are written when there are so many bytes of them: each write is a task for another thread. */
const WRITES = { minLength: 65_536, maxWrite: 131_072 };
/** A pipe takes at most 4096 bytes as one (POSIX PIPE_BUF): with more, lines of processes that share it would mix. */
const SHARED_WRITES = { minLength: 3072, maxWrite: 4096 };
/** The longest time for which a line waits for others. */
const FLUSH_MS = 100;

export type LogOptions = {
  /** In each line, beside the name of the service. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Whether other processes write to the same output. */
  readonly isShared?: boolean;
};

/**
 * The service's logger. Lines are written beside the event loop and several at a time, so that neither their number
 * nor a slow reader of the log slows the release of keys; what is pending is flushed when the process ends.
 */
export function createLog(
  level: string,
  destination?: DestinationStream,
  { fields = {}, isShared = false }: LogOptions = {},
): Log {
  const options = { level, base: { service: 'dstack-kms', ...fields }, redact: REDACT };
  if (destination !== undefined) return pino(options, destination);
  const output = pino.destination({ dest: 1, sync: false, ...(isShared ? SHARED_WRITES : WRITES) });
  setInterval(() => output.flush(), FLUSH_MS).unref();
  return pino(options, output);
}

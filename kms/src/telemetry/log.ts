import { type DestinationStream, type Logger, pino } from 'pino';

/** JSON lines with the documented messages (chapter 10 section 7.5). */
export type Log = Logger;

/** Fields under which a secret could be logged by mistake. */
const REDACT = ['token', 'auth_token', 'key', 'k256', 'privateKey', 'authorization', 'quote', 'body'];

/**
 * Lines are written when there are so many bytes of them. A pipe takes at most 4096 bytes as one (POSIX PIPE_BUF):
 * with more, lines of workers that share it would run into each other.
 */
const WRITE_BYTES = 3072;
const MAX_WRITE_BYTES = 4096;
/** The longest time for which a line waits for others. */
const FLUSH_MS = 100;

/**
 * The service's logger. Lines are written beside the event loop and several at a time, so that neither their number
 * nor a slow reader of the log slows the release of keys; what is pending is flushed when the process ends.
 * @param fields for each line, beside the name of the service
 */
export function createLog(
  level: string,
  destination?: DestinationStream,
  fields: Readonly<Record<string, unknown>> = {},
): Log {
  const options = { level, base: { service: 'dstack-kms', ...fields }, redact: REDACT };
  if (destination !== undefined) return pino(options, destination);
  const output = pino.destination({
    dest: 1,
    sync: false,
    minLength: WRITE_BYTES,
    maxWrite: MAX_WRITE_BYTES,
  });
  setInterval(() => output.flush(), FLUSH_MS).unref();
  return pino(options, output);
}

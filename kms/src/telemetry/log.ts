import { type DestinationStream, type Logger, pino } from 'pino';

/** JSON lines with the documented messages (chapter 10 section 7.5). */
export type Log = Logger;

/** Fields under which a secret could be logged by mistake. */
const REDACT = ['token', 'auth_token', 'key', 'k256', 'privateKey', 'authorization', 'quote', 'body'];

/** Bytes of lines that go into one write, and the longest time for which a line waits for others. */
const WRITE_BYTES = 4096;
const FLUSH_MS = 100;

/**
 * The service's logger. Lines are written beside the event loop and several at a time, so that neither their number
 * nor a slow reader of the log slows the release of keys; what is pending is flushed when the process ends.
 */
export function createLog(level: string, destination?: DestinationStream): Log {
  const options = { level, base: { service: 'dstack-kms' }, redact: REDACT };
  if (destination !== undefined) return pino(options, destination);
  const output = pino.destination({ dest: 1, sync: false, minLength: WRITE_BYTES });
  setInterval(() => output.flush(), FLUSH_MS).unref();
  return pino(options, output);
}

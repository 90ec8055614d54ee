import { type DestinationStream, type Logger, pino } from 'pino';

/** JSON lines with the documented messages (chapter 10 section 7.5). */
export type Log = Logger;

/** Fields under which a secret could be logged by mistake. */
const REDACT = ['token', 'auth_token', 'key', 'k256', 'privateKey', 'authorization', 'quote', 'body'];

/**
 * The service's logger. Lines are written beside the event loop, so that a slow reader of the log does not slow the
 * release of keys; what is pending is flushed when the process ends.
 */
export function createLog(level: string, destination?: DestinationStream): Log {
  const options = { level, base: { service: 'dstack-kms' }, redact: REDACT };
  return pino(options, destination ?? pino.destination({ dest: 1, sync: false }));
}

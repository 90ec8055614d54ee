import { type DestinationStream, type Logger, pino } from 'pino';

/** JSON lines with the documented messages (chapter 10 section 7.5). */
export type Log = Logger;

/** Paths under which a secret could be logged by mistake. */
const REDACT = ['*.token', '*.auth_token', '*.key', '*.k256', '*.privateKey', '*.authorization', '*.quote'];

/** The service's logger; written synchronously, so that the last line before a crash is there. */
export function createLog(level: string, destination?: DestinationStream): Log {
  const options = { level, base: { service: 'dstack-kms' }, redact: REDACT };
  return destination === undefined ? pino(options) : pino(options, destination);
}

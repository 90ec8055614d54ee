import { createHash } from 'node:crypto';
import type { EventLogEntry } from './types.ts';

const REGISTER_BYTES = 48;

/** The registers that an event log adds up to: each event extends its own by SHA-384 (TDX module specification, RTMR). */
export function replayRtmrs(log: readonly EventLogEntry[]): Record<0 | 1 | 2 | 3, string> {
  const replay = (register: number): string => {
    let value: Uint8Array = new Uint8Array(REGISTER_BYTES);
    for (const { imr, digest } of log) {
      if (imr !== register) continue;
      const padded = Buffer.alloc(REGISTER_BYTES);
      Buffer.from(digest, 'hex').copy(padded);
      value = createHash('sha384').update(value).update(padded).digest();
    }
    return Buffer.from(value).toString('hex');
  };
  return { 0: replay(0), 1: replay(1), 2: replay(2), 3: replay(3) };
}

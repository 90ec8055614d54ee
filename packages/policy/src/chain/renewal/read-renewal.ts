import type { Verdict, VerdictReader } from '../verdict-reader.ts';
import type { Renewal } from './renewal.ts';

/** Each costs exchanges and the checking of proofs: more are read when they are asked for. */
const MAX_REQUESTS = 64;
/** At once, so that requests which wait for their own come between. */
const AT_ONCE = 8;

/** Renewal by reading each verdict again, in the way it is read for a request; the latest requests alone. */
export function readRenewal(read: VerdictReader): Renewal {
  return async (view, _from, to, requests) => {
    const renewed = new Map<string, Verdict>();
    const waiting = requests.slice(0, MAX_REQUESTS).values();
    const work = async (): Promise<void> => {
      for (const request of waiting) {
        const verdict = await read(view, to, request).catch(() => undefined);
        if (verdict?.allowed) renewed.set(request.call, verdict);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return renewed;
  };
}

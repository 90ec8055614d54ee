import type { Verdict, VerdictReader } from '../verdict-reader.ts';
import type { Renewal } from './renewal.ts';

/** Renewal by reading each verdict again, in the way it is read for a request. */
export function readRenewal(read: VerdictReader): Renewal {
  return async (view, _from, to, requests) => {
    const renewed = new Map<string, Verdict>();
    await Promise.allSettled(
      requests.map(async (request) => {
        const verdict = await read(view, to, request);
        if (verdict.allowed) renewed.set(request.call, verdict);
      }),
    );
    return renewed;
  };
}

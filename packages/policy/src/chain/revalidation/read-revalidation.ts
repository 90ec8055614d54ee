import type { ContractDecision, DecisionReader } from '../decision-reader.ts';
import type { Revalidation } from './revalidation.ts';

/** Each costs exchanges and the checking of proofs: more are read when they are asked for. */
const MAX_REQUESTS = 64;
/** At once, so that requests which wait for their own come between. */
const AT_ONCE = 8;

/** Revalidation by reading each decision again, in the way it is read for a request; the latest requests alone. */
export function readRevalidation(read: DecisionReader): Revalidation {
  return async (snapshot, _from, to, requests) => {
    const revalidated = new Map<string, ContractDecision>();
    const waiting = requests.slice(0, MAX_REQUESTS).values();
    const work = async (): Promise<void> => {
      for (const request of waiting) {
        const decision = await read(snapshot, to, request).catch(() => undefined);
        if (decision?.allowed) revalidated.set(request.call, decision);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return revalidated;
  };
}

import type { DecisionFailure } from './policy.ts';

/** What workloads hear when a policy could not be read; operators and clients match these texts. */
export const outageReason = {
  stale: 'on-chain state is stale',
  ahead: 'on-chain time is ahead of the local clock',
  'no-quorum': 'RPC quorum not reached',
  unavailable: 'authorization backend unavailable',
} as const;

/** An auth API answers an outage as it answers a denial: by its text alone, ours and the original's the same. */
export function outageOf(reason: string): DecisionFailure | undefined {
  switch (reason) {
    case outageReason.stale:
    case outageReason.ahead:
      return 'stale';
    case outageReason['no-quorum']:
      return 'no-quorum';
    case outageReason.unavailable:
      return 'unavailable';
    default:
      return undefined;
  }
}

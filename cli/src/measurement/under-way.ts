import {
  announceCall,
  type Call,
  callsOfTransaction,
  decodeOperation,
  makesCall,
  type Route,
  type ScheduledOperation,
} from '@dstack-cloud/governance';
import type { Hex } from 'viem';
import type { GovView } from '../gov/connect-gov.ts';
import type { PendingProposal } from '../gov/pending-proposals.ts';

/** A Safe transaction that waits for signatures, and makes or schedules a call. */
export interface Proposed {
  readonly hash: Hex;
  readonly nonce: bigint;
  readonly signatures: number;
  readonly threshold: number;
  /** File that has it on this machine. */
  readonly path: string | undefined;
  /** Seconds that it still waits in a Timelock once it is submitted; 0 without one. */
  readonly delay: bigint;
}

/** How far somebody has come with a call. */
export interface UnderWay {
  /** The Timelock has it. */
  readonly scheduled?: ScheduledOperation;
  /** Signers have been asked for it. */
  readonly proposed?: Proposed;
}

/** What is under way for a call: at the Timelock, else at the transaction service or in a file. */
export function findUnderWay(
  { governance, known }: GovView,
  { timelock }: Route,
  call: Call,
  pending: readonly PendingProposal[],
): UnderWay {
  const scheduled = timelock?.operations.find(
    ({ state, calls }) =>
      (state === 'waiting' || state === 'ready') && calls.some((one) => makesCall(one, call)),
  );
  if (scheduled !== undefined) return { scheduled };
  for (const { proposal, hash, safe, signers, path } of pending) {
    const { nonce } = proposal.tx;
    const of = { hash, nonce, signatures: signers.length, threshold: safe.threshold, path };
    for (const made of callsOfTransaction(proposal.tx, known)) {
      if (makesCall(made, call)) return { proposed: { ...of, delay: 0n } };
      const isTimelock = governance.principals.get(made.to.toLowerCase())?.kind === 'timelock';
      const operation = isTimelock ? decodeOperation(made.to, made.data) : undefined;
      if (operation?.operation.calls.some((one) => makesCall(one, call)) === true) {
        return { proposed: { ...of, delay: operation.delay } };
      }
    }
  }
  return {};
}

/** The same for the call that makes another one public in its contract. */
export function findAnnouncement(
  view: GovView,
  route: Route,
  call: Call,
  pending: readonly PendingProposal[],
): UnderWay {
  return findUnderWay(view, route, announceCall(call), pending);
}

/** Unix time from which it can be made, if everything that is still to do is done at once. */
export function readyFrom({ scheduled, proposed }: UnderWay, now: bigint, wait: bigint): bigint {
  if (scheduled?.readyAt !== undefined) return scheduled.readyAt;
  return now + (proposed?.delay ?? wait);
}

import { randomBytes } from 'node:crypto';
import {
  type Call,
  callsOfTransaction,
  decodeOperation,
  durationText,
  GovernanceError,
  operationId,
  type Route,
  type TimelockOperation,
  timeText,
} from '@dstack-cloud/governance';
import { bytesToHex, type Hex, isAddressEqual, zeroHash } from 'viem';
import { fateOf } from '../chain/sent-fate.ts';
import { SentTransactions } from '../chain/sent-transactions.ts';
import type { Context } from '../context.ts';
import { wholeNumber } from '../whole-number.ts';
import type { GovSession, GovView } from './connect-gov.ts';
import { pendingProposals } from './pending-proposals.ts';

/** The operation of a Timelock that makes the calls; undefined without one. */
export function operationOf(
  { timelock }: Route,
  calls: readonly Call[],
  { delay, after }: { readonly delay?: string; readonly after?: string } = {},
  sentBefore?: Hex,
): { id: Hex; operation: TimelockOperation; delay: bigint } | undefined {
  if (timelock === undefined) return undefined;
  const seconds = BigInt(wholeNumber('--delay', delay) ?? timelock.minDelay);
  if (seconds < timelock.minDelay) {
    throw new GovernanceError('bad-input', 'The delay is shorter than the Timelock allows', {
      ...{ expected: `at least ${durationText(timelock.minDelay)}`, found: durationText(seconds) },
    });
  }
  if (after !== undefined && !timelock.operations.some(({ id }) => id === after.toLowerCase())) {
    throw new GovernanceError('not-found', `There is no operation ${after} to come before this one`);
  }
  // Random, because two pending operations of one content need different salts.
  const salt = sentBefore ?? bytesToHex(randomBytes(32));
  const predecessor = (after?.toLowerCase() ?? zeroHash) as Hex;
  const operation = { calls, predecessor, salt, isBatch: calls.length > 1 };
  return { id: operationId(operation), operation, delay: seconds };
}

/**
 * The salt of what an earlier command, which was killed, sent to schedule the same calls: with it the call is the same, and is
 * not sent twice.
 */
export async function saltSentBefore(
  context: Context,
  session: GovSession,
  { timelock, safe }: Route,
  calls: readonly Call[],
): Promise<Hex | undefined> {
  const account = timelock === undefined || safe !== undefined ? undefined : await session.findAccount();
  if (timelock === undefined || account === undefined) return undefined;
  const { chain } = session;
  for (const sent of await new SentTransactions(context).of(chain.chain.id, account.address)) {
    const { to, data } = sent;
    const operation =
      to !== undefined && isAddressEqual(to, timelock.address)
        ? decodeOperation(to, data)?.operation
        : undefined;
    if (operation === undefined || !isSame(operation.calls, calls)) continue;
    if ((await fateOf(context, session, sent)).state !== 'over') return operation.salt;
  }
  return undefined;
}

function isSame(some: readonly Call[], others: readonly Call[]): boolean {
  return (
    some.length === others.length &&
    some.every(({ to, value, data }, index) => {
      const other = others[index];
      return (
        other !== undefined && isAddressEqual(to, other.to) && value === other.value && data === other.data
      );
    })
  );
}

/**
 * The same calls wait already. A file that no owner has signed or approved may be anybody's, and keeps nobody from a
 * revocation: it is named.
 * @throws GovernanceError `pending`
 */
export async function refuseTwice(
  { warn }: Pick<Context, 'warn'>,
  session: GovSession,
  view: GovView,
  { timelock, safe }: Route,
  { id, operation }: { id: Hex; operation: TimelockOperation },
): Promise<void> {
  const { calls, predecessor } = operation;
  const again = 'Pass --again to schedule the same a second time';
  for (const one of timelock?.operations ?? []) {
    const waits = one.state === 'waiting' || one.state === 'ready';
    if (!waits || one.id === id || one.predecessor !== predecessor || !isSame(one.calls, calls)) continue;
    throw new GovernanceError('pending', `The same is scheduled already, as operation ${one.id}`, {
      hint: `It can be executed from ${timeText(one.readyAt ?? 0n)}: dstack-cloud gov execute ${one.id}. ${again}`,
    });
  }
  if (safe === undefined) return;
  for (const { proposal, hash, signers, path } of await pendingProposals(session, view)) {
    const scheduled = callsOfTransaction(proposal.tx, view.known).map(({ to, data }) =>
      decodeOperation(to, data),
    );
    if (!scheduled.some((one) => one !== undefined && isSame(one.operation.calls, calls))) continue;
    if (signers.length === 0) {
      warn(`${path ?? hash} proposes the same, and nobody has signed it: it is passed over`);
      continue;
    }
    throw new GovernanceError('pending', `The same is proposed already, as Safe transaction ${hash}`, {
      hint: `It has ${signers.length} of ${safe.threshold} signatures: dstack-cloud gov approve ${path ?? hash}. ${again}`,
    });
  }
}

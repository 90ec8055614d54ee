import { dstackKmsAbi } from '@dstack-cloud/contracts';
import {
  announceCall,
  type Call,
  callLines,
  canonicalSafeContract,
  describeCall,
  durationText,
  encodeMultiSend,
  GovernanceError,
  isSafeContract,
  type Route,
  scheduleCall,
  simulateCalls,
  timeText,
} from '@dstack-cloud/governance';
import { encodeFunctionData, isAddressEqual } from 'viem';
import { fromAll } from '../chain/other-endpoints.ts';
import type { Context } from '../context.ts';
import type { GovSession, GovView } from './connect-gov.ts';
import { makeProposal, type ProposeOptions } from './make-proposal.ts';
import { operationOf, refuseTwice, saltSentBefore } from './operation-of.ts';
import { sendCall } from './send-call.ts';

export type StartOptions = ProposeOptions & {
  readonly delay?: string;
  readonly after?: string;
  /** Make the calls public in their contracts, instead of making them. */
  readonly announce?: boolean;
  /** Schedule what is scheduled already. */
  readonly again?: boolean;
};

/**
 * Says what calls of one owner do, tries them on the chain as it is, and starts them in the way that the owner demands: sent
 * by an account, scheduled by one, or as a proposal for a Safe.
 */
export async function startCalls(
  context: Context,
  session: GovSession,
  view: GovView,
  { route, calls: wanted }: { route: Route; calls: readonly Call[] },
  options: StartOptions,
): Promise<Record<string, unknown>> {
  const calls = options.announce === true ? wanted.map(announceCall) : wanted;
  const described = calls.map((call) => describeCall(call, view.known));
  for (const one of described) for (const line of callLines(one)) context.print(line);
  const tried = (list: readonly Call[], isScheduled: boolean): ReturnType<typeof simulateCalls> =>
    fromAll(context, session, (client) =>
      simulateCalls(client, route.authority, list, {
        names: list.map((call) => describeCall(call, view.known).text),
        isScheduled,
      }),
    );
  // What would fail is not made public either.
  if (options.announce === true) await tried(wanted, true);
  const simulated = await tried(calls, route.timelock !== undefined);
  if (!simulated.inSequence) {
    context.warn('This endpoint tries each call alone: whether one undoes the next was not seen');
  }
  const operation = operationOf(route, calls, options, await saltSentBefore(context, session, route, calls));
  if (operation !== undefined && options.again !== true)
    await refuseTwice(context, session, view, route, operation);
  const starting =
    operation === undefined || route.timelock === undefined
      ? calls
      : [scheduleCall(route.timelock.address, operation.operation, operation.delay)];
  sayWhen(context, view, route, operation?.delay, options.announce === true);
  const notBefore = view.governance.block.timestamp + (operation?.delay ?? 0n);
  const result = {
    not_before: Number(notBefore),
    effect: described.flatMap((one) => callLines(one)),
    authority: route.authority,
    ...(operation && {
      operation: operation.id,
      salt: operation.operation.salt,
      delay_seconds: Number(operation.delay),
    }),
  };
  if (operation !== undefined) context.print(`Operation ${operation.id}`);
  if (route.safe !== undefined) {
    const tx = await batched(session, starting);
    return { ...result, ...(await makeProposal(context, session, view, route.safe, tx, options)) };
  }
  const call = oneTransaction(view, starting);
  if (session.dryRun && (await session.findAccount()) === undefined) {
    context.print(`Would be sent from ${route.accounts.join(' or ')}; nothing was sent.`);
    return { ...result, sent: false, transaction: null };
  }
  const receipt = await sendCall(context, session, call, {
    ...{
      what: operation === undefined ? describeCall(call, view.known).text : 'schedule it',
      who: route.accounts,
    },
  });
  if (receipt !== undefined) {
    context.print(operation !== undefined ? 'Scheduled' : options.announce === true ? 'Announced' : 'Done');
  }
  return { ...result, sent: receipt !== undefined, transaction: receipt?.transactionHash ?? null };
}

/** One transaction of an account for all calls: the contract's own batch. @throws GovernanceError `bad-input` */
function oneTransaction({ governance }: GovView, calls: readonly Call[]): Call {
  const [first, ...more] = calls;
  if (first !== undefined && more.length === 0) return first;
  const contract = [governance.kms, ...governance.apps].find(
    ({ address }) => first !== undefined && isAddressEqual(address, first.to),
  );
  if (
    first === undefined ||
    contract?.policyEpoch === undefined ||
    !calls.every(({ to, value }) => isAddressEqual(to, first.to) && value === 0n)
  ) {
    throw new GovernanceError('bad-input', 'An account makes these calls one at a time', {
      expected: 'calls of one contract that has multicall, which the 0.6 line has not',
      hint: 'Propose the calls one by one',
    });
  }
  const args = [calls.map(({ data }) => data)] as const;
  return {
    ...{ to: first.to, value: 0n },
    data: encodeFunctionData({ abi: dstackKmsAbi, functionName: 'multicall', args }),
  };
}

/** One transaction of the Safe for all calls. */
async function batched(
  session: GovSession,
  calls: readonly Call[],
): Promise<{ call: Call; operation: 0 | 1 }> {
  const [only, ...more] = calls;
  if (only !== undefined && more.length === 0) return { call: only, operation: 0 };
  const { client, file } = session;
  const own = file?.multiSend;
  const multiSend =
    own !== undefined && (await isSafeContract(client, 'MultiSendCallOnly', own))
      ? own
      : await canonicalSafeContract(client, 'MultiSendCallOnly');
  if (multiSend === undefined) {
    throw new GovernanceError('not-found', 'This chain has no MultiSendCallOnly of Safe 1.4.1 for batches', {
      hint: 'Name one as multiSend in governance.json, or propose the calls one by one',
    });
  }
  return { call: { to: multiSend, value: 0n, data: encodeMultiSend(calls) }, operation: 1 };
}

function sayWhen(
  context: Context,
  { governance }: GovView,
  route: Route,
  delay: bigint | undefined,
  isAnnouncement: boolean,
): void {
  const verb = route.timelock === undefined ? 'can do this' : 'can schedule this';
  context.print(`${whoStarts(route)} ${verb}`);
  if (delay === undefined) context.print('It takes effect at once when it is executed');
  else {
    const earliest = timeText(governance.block.timestamp + delay);
    context.print(`It takes effect ${durationText(delay)} after it is scheduled, not before ${earliest}`);
  }
  if (isAnnouncement) {
    context.print(
      'Then the policy delay begins: repeat this without --announce after it, within 14 days of its end',
    );
  }
}

/** Whose signatures start something. */
export function whoStarts(route: Route): string {
  return route.safe === undefined
    ? route.accounts.join(' or ')
    : `${route.safe.threshold} of ${route.safe.owners.length} signers of Safe ${route.safe.address}`;
}

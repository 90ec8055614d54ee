import {
  callLines,
  describeCall,
  durationText,
  executeCall,
  GovernanceError,
  simulateExecution,
  stepRoute,
  timeText,
} from '@dstack-cloud/governance';
import { type Address, zeroHash } from 'viem';
import { fromAll } from '../chain/other-endpoints.ts';
import type { Context } from '../context.ts';
import { connectGov, type GovOptions } from '../gov/connect-gov.ts';
import { findOperation } from '../gov/find-operation.ts';
import { makeProposal, type ProposeOptions } from '../gov/make-proposal.ts';
import { sendStep } from '../gov/send-call.ts';

/** `gov execute`: executes an operation whose delay is over, if it still succeeds. */
export async function run(
  context: Context,
  [name = '']: readonly string[],
  options: GovOptions & ProposeOptions,
): Promise<undefined> {
  const session = await connectGov(context, options);
  const view = await session.read();
  const { governance, known } = view;
  const { timelock, operation } = await findOperation(session, view, name);
  const { id, state, readyAt, predecessor } = operation;
  for (const call of operation.calls)
    for (const line of callLines(describeCall(call, known))) context.print(line);
  if (state === 'waiting') {
    const left = (readyAt ?? 0n) - governance.block.timestamp;
    throw new GovernanceError('not-ready', `The delay of operation ${id} is not over`, {
      ...{ expected: `${timeText(readyAt ?? 0n)} or later`, found: timeText(governance.block.timestamp) },
      hint: `Wait ${durationText(left)}`,
    });
  }
  if (state !== 'ready') {
    const why = { done: 'is executed already', cancelled: 'was cancelled', expired: 'has expired' }[state];
    throw new GovernanceError('not-ready', `Operation ${id} ${why}`, {
      hint: state === 'done' ? 'Nothing is left to do' : 'Propose it again if it is still wanted',
    });
  }
  const before = timelock.operations.find((one) => one.id === predecessor);
  if (predecessor !== zeroHash && before?.state !== 'done') {
    throw new GovernanceError('not-ready', `Operation ${id} has to wait for operation ${predecessor}`, {
      ...{ expected: 'done', found: before?.state ?? 'never scheduled' },
      hint:
        before === undefined ? 'Cancel it: what it waits for does not exist' : `Execute ${predecessor} first`,
    });
  }
  const call = executeCall(timelock.address, operation);
  const account = await session.findAccount();
  const route = stepRoute(governance, timelock, 'executor');
  const tryAs = (executor: Address): Promise<void> =>
    fromAll(context, session, (client) =>
      simulateExecution(client, governance, timelock.address, operation, executor),
    );
  const isExecutor =
    timelock.isOpen ||
    (account !== undefined &&
      route.accounts.some((one) => one.toLowerCase() === account.address.toLowerCase()));
  if (!isExecutor && route.safe !== undefined) {
    await tryAs(route.safe.address);
    const made = await makeProposal(context, session, view, route.safe, { call, operation: 0 }, options);
    context.result({ operation: id, sent: false, ...made });
    return undefined;
  }
  const sender = (await session.chain.signer()).account.address;
  await tryAs(sender);
  await sendStep(context, session, call, {
    verb: 'execute',
    id,
    ...(timelock.isOpen ? {} : { who: route.accounts }),
  });
  return undefined;
}

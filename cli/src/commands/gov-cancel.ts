import { callLines, cancelCall, describeCall, GovernanceError, stepRoute } from '@dstack-cloud/governance';
import type { Context } from '../context.ts';
import { connectGov, type GovOptions } from '../gov/connect-gov.ts';
import { findOperation } from '../gov/find-operation.ts';
import { makeProposal, type ProposeOptions } from '../gov/make-proposal.ts';
import { sendStep } from '../gov/send-call.ts';

/** `gov cancel`: takes an operation out of the Timelock before it is executed. It takes effect at once. */
export async function run(
  context: Context,
  [name = '']: readonly string[],
  options: GovOptions & ProposeOptions,
): Promise<undefined> {
  const session = await connectGov(context, options);
  const view = await session.read();
  const { timelock, operation } = await findOperation(session, view, name);
  const { id, state } = operation;
  for (const call of operation.calls) {
    for (const line of callLines(describeCall(call, view.known))) context.print(line);
  }
  if (state === 'done' || state === 'cancelled') {
    throw new GovernanceError(
      'not-ready',
      `Operation ${id} ${state === 'done' ? 'is executed already' : 'was cancelled already'}`,
      {
        hint: state === 'done' ? 'Propose what undoes it' : 'Nothing is left to do',
      },
    );
  }
  const call = cancelCall(timelock.address, id);
  const route = stepRoute(view.governance, timelock, 'canceller');
  const account = await session.findAccount();
  const isCanceller =
    account !== undefined &&
    route.accounts.some((one) => one.toLowerCase() === account.address.toLowerCase());
  if (!isCanceller && route.safe !== undefined) {
    const made = await makeProposal(context, session, view, route.safe, { call, operation: 0 }, options);
    context.result({ operation: id, sent: false, ...made });
    return undefined;
  }
  await sendStep(context, session, call, { verb: 'cancel', id, who: route.accounts });
  return undefined;
}

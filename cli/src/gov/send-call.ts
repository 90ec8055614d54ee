import { type Call, GovernanceError, simulateCalls } from '@dstack-cloud/governance';
import { type Address, type Hex, isAddressEqual, type TransactionReceipt } from 'viem';
import { confirm } from '../ask.ts';
import { fromAll } from '../chain/other-endpoints.ts';
import { sendOnce, sentBefore } from '../chain/send-once.ts';
import type { Context } from '../context.ts';
import type { GovSession } from './connect-gov.ts';

/**
 * Sends a call from the account, after it succeeded in a simulation and was confirmed.
 * @param who accounts that may do it; default: anybody
 * @returns undefined for a dry run
 */
export async function sendCall(
  context: Context,
  session: GovSession,
  call: Call,
  options: { what: string; who?: readonly Address[] },
): Promise<TransactionReceipt | undefined> {
  const { chain, dryRun } = session;
  const { what, who } = options;
  const { account } = await chain.signer();
  if (who !== undefined && !who.some((one) => isAddressEqual(one, account.address))) {
    throw new GovernanceError('not-allowed', `${account.address} may not do this`, {
      ...{ expected: who.join(' or ') || 'nobody', found: account.address },
      hint: 'Use the key of one who may',
    });
  }
  const before = await sentBefore(context, session, call);
  if (before === undefined) {
    const names = { names: [what] };
    await fromAll(context, session, (client) => simulateCalls(client, account.address, [call], names));
  } else {
    context.warn(
      `An earlier command sent this as transaction ${before.hash}, and did not see it confirmed: it is waited for, and nothing else is sent`,
    );
  }
  if (dryRun) {
    context.print(`Would ${what}, from ${account.address}. It succeeds in a simulation; nothing was sent.`);
    return undefined;
  }
  if (before === undefined) await confirm(context, `Send it from ${account.address}?`);
  return (await sendOnce(context, session, call)).receipt;
}

/** Sends the call that executes or cancels an operation of a Timelock, and reports it. @param who as for `sendCall` */
export async function sendStep(
  context: Context,
  session: GovSession,
  call: Call,
  step: { verb: 'execute' | 'cancel'; id: Hex; who?: readonly Address[] },
): Promise<void> {
  const { verb, id, who } = step;
  const receipt = await sendCall(context, session, call, {
    what: `${verb} operation ${id}`,
    ...(who === undefined ? {} : { who }),
  });
  const transaction = receipt?.transactionHash ?? null;
  if (transaction !== null)
    context.print(
      `${verb === 'execute' ? 'Executed' : 'Cancelled'} operation ${id} in transaction ${transaction}`,
    );
  context.result({ operation: id, sent: transaction !== null, transaction });
}

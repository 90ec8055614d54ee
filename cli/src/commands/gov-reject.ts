import { GovernanceError, safeTx } from '@dstack-cloud/governance';
import type { Context } from '../context.ts';
import { connectGov, type GovOptions } from '../gov/connect-gov.ts';
import { makeProposal, type ProposeOptions } from '../gov/make-proposal.ts';
import { openProposal } from '../gov/proposals.ts';

/** `gov reject`: an empty transaction with the same nonce. Once it is executed, the other never can be. */
export async function run(
  context: Context,
  [name = '']: readonly string[],
  options: GovOptions & ProposeOptions,
): Promise<undefined> {
  const session = await connectGov(context, options);
  const view = await session.read();
  const { proposal, safe } = await openProposal(context, session, view, name);
  const { nonce } = proposal.tx;
  const call = { to: safe.address, value: 0n, data: '0x' } as const;
  if (safeTx(call, nonce).data === proposal.tx.data && proposal.tx.to === safe.address) {
    throw new GovernanceError('bad-input', 'The proposal is itself a rejection');
  }
  context.print(`Nothing is done with nonce ${nonce}, so that ${name} can never be executed`);
  const made = await makeProposal(
    context,
    session,
    view,
    safe,
    { call, operation: 0 },
    { ...options, nonce: String(nonce) },
  );
  context.result(made);
  return undefined;
}

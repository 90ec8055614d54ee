import {
  callLines,
  GovernanceError,
  operationId,
  packSignatures,
  readApprovals,
  safeAbi,
  simulateTransaction,
  timeText,
} from '@dstack-cloud/governance';
import { encodeFunctionData, isAddressEqual, parseEventLogs } from 'viem';
import { fromAll } from '../chain/other-endpoints.ts';
import type { Context } from '../context.ts';
import { connectGov, type GovOptions } from '../gov/connect-gov.ts';
import { openProposal, scheduledBy, wordsOf } from '../gov/proposals.ts';
import { sendCall } from '../gov/send-call.ts';

/** `gov submit`, also called `gov schedule`: executes a Safe transaction that has enough signatures. */
export async function run(
  context: Context,
  [name = '']: readonly string[],
  options: GovOptions,
): Promise<undefined> {
  const session = await connectGov(context, options);
  const view = await session.read();
  const open = await openProposal(context, session, view, name);
  const { proposal, hash, safe } = open;
  const { tx } = proposal;
  for (const line of callLines(wordsOf(open, view))) context.print(line);
  if (tx.nonce > safe.nonce) {
    throw new GovernanceError(
      'not-ready',
      `Transactions of the Safe go in order: ${tx.nonce - safe.nonce} come before this one`,
      {
        ...{ expected: `nonce ${safe.nonce}`, found: `nonce ${tx.nonce}` },
        hint: 'Submit the earlier ones first, or reject them',
      },
    );
  }
  const approvers = await readApprovals(session.client, safe, hash);
  const signatures = await packSignatures(safe, hash, proposal.signatures, approvers);
  await fromAll(context, session, (client) => simulateTransaction(client, view.governance, safe.address, tx));
  const data = encodeFunctionData({
    ...{ abi: safeAbi, functionName: 'execTransaction' },
    args: [
      ...([tx.to, tx.value, tx.data, tx.operation, tx.safeTxGas, tx.baseGas, tx.gasPrice] as const),
      ...([tx.gasToken, tx.refundReceiver, signatures] as const),
    ],
  });
  const call = { to: safe.address, value: 0n, data };
  const receipt = await sendCall(context, session, call, { what: 'execute the Safe transaction' });
  const scheduled = scheduledBy(open);
  const id = scheduled === undefined ? undefined : operationId(scheduled.operation);
  if (receipt === undefined) {
    context.result({ hash, sent: false, operation: id ?? null });
    return undefined;
  }
  const done = parseEventLogs({ abi: safeAbi, eventName: 'ExecutionSuccess', logs: receipt.logs });
  if (!done.some(({ address, args }) => isAddressEqual(address, safe.address) && args.txHash === hash)) {
    throw new GovernanceError(
      'chain-inconsistent',
      `Transaction ${receipt.transactionHash} did not execute ${hash}`,
      {
        hint: 'See dstack-cloud gov status',
      },
    );
  }
  context.print(`Executed Safe transaction ${hash} in transaction ${receipt.transactionHash}`);
  let readyAt: bigint | undefined;
  if (scheduled !== undefined && id !== undefined) {
    const block = await session.client.getBlock({ blockNumber: receipt.blockNumber });
    readyAt = block.timestamp + scheduled.delay;
    context.print(`Operation ${id} is scheduled: it can be executed from ${timeText(readyAt)}`);
    context.info(`Next: dstack-cloud gov execute ${id}`);
  }
  context.result({
    ...{ hash, sent: true, transaction: receipt.transactionHash, gas_used: Number(receipt.gasUsed) },
    ...{ operation: id ?? null, ready_at: readyAt === undefined ? null : Number(readyAt) },
  });
  return undefined;
}

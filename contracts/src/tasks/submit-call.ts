import type { Address } from 'viem';
import { ContractsError } from '../errors.ts';
import type { TaskChain } from './connect-task.ts';
import { nameOwner } from './name-owner.ts';
import type { Sender } from './sender.ts';
import type { Submitted, TaskCall } from './task.ts';
import type { TaskTerminal } from './terminal.ts';
import { announcing, describeCall, safeBatch, scheduled, simulate, unsignedOf } from './wrap-call.ts';

/** How a call leaves: sent by the account, shown, or as a transaction for a Safe or a Timelock. */
export type Delivery = {
  readonly dryRun: boolean;
  readonly safe?: Address | undefined;
  readonly timelock?: Address | undefined;
  /** Make the call public, instead of making it. */
  readonly announce?: boolean;
  /** What the call is for, in words. */
  readonly summary?: string;
};

/** @throws ContractsError `call-reverted` before anything is sent, `transaction-reverted` after */
export async function submitCall(
  { chain, terminal, sender }: { chain: TaskChain; terminal: TaskTerminal; sender: Sender },
  wanted: TaskCall,
  { dryRun, safe, timelock, announce = false, summary }: Delivery,
): Promise<Submitted> {
  const call = announce ? announcing(wanted) : wanted;
  const effect = `${announce ? 'announcement of ' : ''}${describeCall(wanted)}`;
  if (timelock !== undefined || safe !== undefined) {
    // Whoever owns the contract will make the call.
    const caller = (timelock ?? safe) as Address;
    await simulate(chain, call, caller).catch((error: unknown) => {
      // Scheduling is what makes it public.
      const isScheduled = timelock !== undefined && error instanceof ContractsError;
      if (!isScheduled || error.code !== 'call-not-announced') throw error;
    });
    const operation = timelock === undefined ? undefined : await scheduled(chain, timelock, call, safe);
    const transaction = operation?.transaction ?? unsignedOf(call);
    const result = safe === undefined ? transaction : safeBatch(chain.chain.id, safe, effect, [transaction]);
    terminal.note(`${effect}, made by ${caller}; nothing was sent`);
    if (operation) {
      terminal.note(
        `Timelock operation ${operation.id}, salt ${operation.salt}, delay ${operation.delaySeconds} s`,
      );
    }
    terminal.document(result);
    const { transaction: _, ...named } = operation ?? {};
    return { sent: false, effect, transaction: result, ...named };
  }

  const { account } = await chain.signer();
  const { to, data } = unsignedOf(call);
  const before = await sender.sentBefore({ to, data });
  // What was sent may have changed what the call would find.
  if (before === undefined) {
    await simulate(chain, call, account.address).catch(async (error: unknown) => {
      throw await nameOwner(chain, call.to, error);
    });
  } else {
    terminal.note(
      `An earlier command sent this as transaction ${before}, and did not see it confirmed: it is waited for, and nothing else is sent`,
    );
  }
  if (dryRun && before !== undefined) return { sent: false, effect, transactionHash: before };
  if (dryRun) {
    terminal.print(
      `Would ${announce ? 'make public that it is to ' : ''}${summary ?? 'make a call'}: call ${effect}, from ${account.address}. It succeeds in a simulation; nothing was sent.`,
    );
    return { sent: false, effect, from: account.address, transaction: unsignedOf(call) };
  }
  const { receipt } = await sender.send(
    { to, data },
    { sent: (hash) => terminal.print(`Waiting for transaction ${hash} to be confirmed...`) },
  );
  return {
    sent: true,
    transactionHash: receipt.transactionHash,
    ...{ effect, blockNumber: receipt.blockNumber.toString(), gasUsed: receipt.gasUsed.toString() },
    logs: receipt.logs,
  };
}

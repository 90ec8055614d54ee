import type { Address, PublicClient } from 'viem';
import { GovernanceError } from '../errors.ts';
import { decodeMultiSend } from '../safe/multi-send.ts';
import { isSafeContract } from '../safe/safe-contracts.ts';
import type { SafeTx } from '../safe/safe-tx.ts';
import type { Governance } from '../state/read-governance.ts';
import { decodeOperation } from '../timelock/decode-operation.ts';
import type { Call } from '../timelock/operation.ts';
import { executeCall } from '../timelock/operation.ts';
import { describeCall } from '../words/describe-call.ts';
import { knownContracts } from '../words/known-contracts.ts';
import { simulateCalls } from './simulate-calls.ts';

/**
 * Does what a Safe transaction does, and what it schedules, on the present state of the chain.
 * @throws GovernanceError `simulation-failed`; `not-allowed` for a delegatecall to anything but Safe's own batch contract
 */
export async function simulateTransaction(
  client: PublicClient,
  governance: Governance,
  safe: Address,
  tx: SafeTx,
): Promise<{ inSequence: boolean }> {
  let calls: Call[] = [{ to: tx.to, value: tx.value, data: tx.data }];
  if (tx.operation === 1) {
    if (!(await isSafeContract(client, 'MultiSendCallOnly', tx.to))) {
      throw new GovernanceError('not-allowed', `The transaction is a delegatecall to ${tx.to}`, {
        expected: 'a call, or a batch through MultiSendCallOnly of Safe 1.4.1',
        hint: 'Do not sign it: it may do anything to the Safe',
      });
    }
    calls = decodeMultiSend(tx.data);
  }
  const known = knownContracts(governance);
  const names = (list: readonly Call[]): string[] => list.map((call) => describeCall(call, known).text);
  let inSequence = true;
  for (const { to, data } of calls) {
    const scheduled =
      governance.principals.get(to.toLowerCase())?.kind === 'timelock' && decodeOperation(to, data);
    if (!scheduled) continue;
    const inner = scheduled.operation.calls;
    inSequence =
      (await simulateCalls(client, to, inner, { names: names(inner), isScheduled: true })).inSequence &&
      inSequence;
  }
  inSequence = (await simulateCalls(client, safe, calls, { names: names(calls) })).inSequence && inSequence;
  return { inSequence };
}

/** What executing an operation does, by whoever executes it: first its calls, whose reasons are clearer, then the whole. */
export async function simulateExecution(
  client: PublicClient,
  governance: Governance,
  timelock: Address,
  operation: Parameters<typeof executeCall>[1],
  executor: Address,
): Promise<void> {
  const known = knownContracts(governance);
  const names = operation.calls.map((call) => describeCall(call, known).text);
  await simulateCalls(client, timelock, operation.calls, { names, isScheduled: true });
  await simulateCalls(client, executor, [executeCall(timelock, operation)], { names: ['execute'] });
}

import type { Address, Hex } from 'viem';
import { type ContractName, loadArtifact } from '../artifact.ts';
import { ContractsError } from '../errors.ts';
import type { TaskRun } from './task.ts';

const RECEIPT_TIMEOUT_MS = 180_000;

/** Deploys a contract and waits until the same node knows its code. */
export async function deployContract(
  { chain, terminal }: Pick<TaskRun, 'chain' | 'terminal'>,
  name: ContractName,
  args: readonly unknown[] = [],
): Promise<{ address: Address; transactionHash: Hex }> {
  const { account, wallet } = await chain.signer();
  const { abi, bytecode } = loadArtifact(name);
  const hash = await wallet.deployContract({ abi, bytecode, args: [...args], account, chain: chain.chain });
  terminal.print(`Waiting for transaction ${hash} to be confirmed...`);
  const receipt = await chain.public.waitForTransactionReceipt({ hash, timeout: RECEIPT_TIMEOUT_MS });
  const address = receipt.contractAddress;
  if (receipt.status !== 'success' || !address) {
    throw new ContractsError('transaction-reverted', `Transaction ${hash} created no contract`);
  }
  return { address, transactionHash: hash };
}

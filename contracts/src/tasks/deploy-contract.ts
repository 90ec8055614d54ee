import { type Abi, type Address, encodeDeployData, getContractAddress, type Hex, isAddressEqual } from 'viem';
import { type ContractName, loadArtifact } from '../artifact.ts';
import { ContractsError } from '../errors.ts';
import { awaitReceipt } from './await-receipt.ts';
import { signTransaction } from './sign-transaction.ts';
import type { TaskRun } from './task.ts';

/** A contract of this repository. */
export async function deployContract(
  run: Pick<TaskRun, 'chain' | 'terminal'>,
  name: ContractName,
  args: readonly unknown[] = [],
): Promise<{ address: Address; transactionHash: Hex }> {
  return await deployCode(run, loadArtifact(name), args);
}

/**
 * Deploys a contract and waits for its receipt. The address follows from what the account signs (account and nonce): proxies
 * are made for it and policies named by it, so it is not the endpoint that says it.
 *
 * @param announce gets the address before anything is sent, so that whoever is killed meanwhile finds the contract again
 */
export async function deployCode(
  { chain, terminal }: Pick<TaskRun, 'chain' | 'terminal'>,
  { abi, bytecode }: { abi: Abi; bytecode: Hex },
  args: readonly unknown[] = [],
  announce: (address: Address) => Promise<void> = async () => undefined,
): Promise<{ address: Address; transactionHash: Hex }> {
  const { account } = await chain.signer();
  const from = account.address;
  const nonce = await chain.public.getTransactionCount({ address: from, blockTag: 'pending' });
  const address = getContractAddress({ from, nonce: BigInt(nonce) });
  await announce(address);
  const data = encodeDeployData({ abi, bytecode, args: [...args] });
  const { raw, hash } = await signTransaction(chain, { data, nonce });
  await chain.public.sendRawTransaction({ serializedTransaction: raw });
  terminal.print(`Waiting for transaction ${hash} to be confirmed...`);
  const { contractAddress } = await awaitReceipt(chain, hash);
  if (!contractAddress) {
    throw new ContractsError('transaction-reverted', `Transaction ${hash} created no contract`);
  }
  if (!isAddressEqual(contractAddress, address)) {
    throw new ContractsError(
      'event-missing',
      `Transaction ${hash} must create ${address}, but the endpoint says ${contractAddress}: do not use it`,
    );
  }
  return { address, transactionHash: hash };
}

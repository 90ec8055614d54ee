import { type Abi, type Address, getAddress, type Hash, type Hex, type TransactionReceipt } from 'viem';
import type { ChainClient } from './chain-client.ts';
import { ContractsError } from './errors.ts';

const RECEIPT_TIMEOUT_MS = 60_000;

/** Wait for a receipt and insist that the transaction succeeded. */
async function waitForSuccess(client: ChainClient, hash: Hash): Promise<TransactionReceipt> {
  const receipt = await client.public.waitForTransactionReceipt({ hash, timeout: RECEIPT_TIMEOUT_MS });
  if (receipt.status !== 'success') {
    throw new ContractsError('transaction-reverted', `Transaction ${hash} reverted on chain`);
  }
  return receipt;
}

/**
 * Call a writing function: simulate it first, so that a revert is reported with its reason and costs nothing,
 * then send it and wait for the receipt.
 * @throws viem's ContractFunctionRevertedError chain from the simulation, ContractsError from the receipt
 */
export async function transact(
  client: ChainClient,
  address: Address,
  abi: Abi,
  functionName: string,
  args: readonly unknown[],
): Promise<TransactionReceipt> {
  const { account, chain } = client;
  const call = { address, abi, functionName, args, account, chain } as const;
  await client.public.simulateContract(call);
  return await waitForSuccess(client, await client.wallet.writeContract(call));
}

/** Deploy creation code and return the new contract's address with its receipt. */
export async function deployCode(
  client: ChainClient,
  abi: Abi,
  bytecode: Hex,
  args: readonly unknown[] = [],
): Promise<{ address: Address; receipt: TransactionReceipt }> {
  const { account, chain } = client;
  const receipt = await waitForSuccess(
    client,
    await client.wallet.deployContract({ abi, bytecode, args, account, chain }),
  );
  if (!receipt.contractAddress) {
    throw new ContractsError(
      'transaction-reverted',
      `Transaction ${receipt.transactionHash} created no contract`,
    );
  }
  return { address: getAddress(receipt.contractAddress), receipt };
}

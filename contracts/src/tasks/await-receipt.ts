import type { Hex, TransactionReceipt } from 'viem';
import { ContractsError } from '../errors.ts';
import type { SigningChain } from './connect-task.ts';

const RECEIPT_TIMEOUT_MS = 180_000;

/**
 * Waits until a transaction is in a block of the chain.
 * @throws ContractsError `not-confirmed` when it is not yet, `transaction-reverted` also when another one took its place
 */
export async function awaitReceipt(
  { public: client }: Pick<SigningChain, 'public'>,
  hash: Hex,
  timeout: number = RECEIPT_TIMEOUT_MS,
): Promise<TransactionReceipt> {
  const receipt = await client.waitForTransactionReceipt({ hash, timeout }).catch((error: unknown) => {
    if ((error as { name?: string }).name !== 'WaitForTransactionReceiptTimeoutError') throw error;
    throw new ContractsError(
      'not-confirmed',
      `Transaction ${hash} was sent, and is in no block after ${timeout / 1_000} s. It may still come to pass`,
    );
  });
  if (receipt.transactionHash !== hash) {
    throw new ContractsError(
      'transaction-reverted',
      `Transaction ${receipt.transactionHash} of the same account took the place of ${hash}`,
    );
  }
  if (receipt.status !== 'success') {
    throw new ContractsError('transaction-reverted', `Transaction ${hash} reverted on chain`);
  }
  const block = await client.getBlock({ blockNumber: receipt.blockNumber });
  if (block.hash !== receipt.blockHash) {
    throw new ContractsError(
      'not-confirmed',
      `Transaction ${hash} was in block ${receipt.blockNumber}, which the chain has replaced. It may still come to pass`,
    );
  }
  return receipt;
}

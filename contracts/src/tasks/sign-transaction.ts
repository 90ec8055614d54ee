import {
  type Address,
  formatEther,
  type Hex,
  keccak256,
  parseEther,
  type TransactionSerializable,
} from 'viem';
import { ContractsError } from '../errors.ts';
import type { SigningChain } from './connect-task.ts';
import { explainFailure } from './explain-revert.ts';
import { shown } from './hex-values.ts';

/** What is sent; without `to` it creates a contract. */
export type Sending = { readonly to?: Address; readonly value?: bigint; readonly data: Hex };

/** A transaction that can be sent any number of times, and counts once. */
export type SignedTransaction = { readonly raw: Hex; readonly hash: Hex; readonly nonce: number };

/** More than any task needs, and less than most blocks have. */
const MAX_GAS = 30_000_000n;
/** Wei. An endpoint names gas and fees; whoever believes it without a bound can be made to pay anything. */
export const MAX_COST: bigint = 10n ** 18n;

/** Wei of `--max-cost`, which is in units of the chain's currency. @throws ContractsError `bad-argument` */
export function costValue(text: string | undefined): bigint {
  if (text === undefined) return MAX_COST;
  if (/^\d{1,9}(\.\d{1,18})?$/.test(text)) return parseEther(text);
  throw new ContractsError('bad-argument', `--max-cost is a number such as 0.05, found ${shown(text)}`);
}

/**
 * Signs a transaction of the account with gas and fees as the endpoint proposes them, within bounds.
 * @param replacing nonce of a transaction that this one takes the place of
 * @throws ContractsError `refused` when it would cost more than `maxCost` wei
 */
export async function signTransaction(
  { chain, public: client, signer }: SigningChain,
  { to, value = 0n, data }: Sending,
  maxCost: bigint = MAX_COST,
  replacing?: number,
): Promise<SignedTransaction> {
  const { account } = await signer();
  const { address } = account;
  try {
    const estimate = await client.estimateGas({ account: address, ...(to && { to }), value, data });
    // Made at the time of the last block: what is written there twice in one second costs little, and more in the next.
    const gas = estimate + estimate / 4n;
    if (gas > MAX_GAS) throw refused(`it needs ${gas} gas`, `at most ${MAX_GAS}`);
    const nonce = replacing ?? (await client.getTransactionCount({ address, blockTag: 'pending' }));
    const { baseFeePerGas } = await client.getBlock();
    const isLegacy = typeof baseFeePerGas !== 'bigint';
    const fees = isLegacy ? { gasPrice: await client.getGasPrice() } : await client.estimateFeesPerGas();
    const price = ('gasPrice' in fees ? fees.gasPrice : fees.maxFeePerGas) ?? 0n;
    const cost = gas * price;
    if (cost > maxCost) {
      throw refused(
        `it may cost ${formatEther(cost)} (${gas} gas at ${price} wei)`,
        `at most ${formatEther(maxCost)}`,
      );
    }
    const balance = await client.getBalance({ address });
    if (balance < cost + value) {
      throw new ContractsError(
        'refused',
        `Account ${address} has insufficient funds: ${formatEther(balance)}, and the transaction may cost ${formatEther(cost + value)}; nothing was sent`,
        { hint: `Send it funds on chain ${chain.id}, or use another account` },
      );
    }
    // Nothing that an endpoint says is part of it but these numbers.
    const transaction = { chainId: chain.id, nonce, gas, value, data, ...(to && { to }), ...fees };
    const type = isLegacy ? 'legacy' : 'eip1559';
    const raw = await account.signTransaction({ ...transaction, type } as TransactionSerializable);
    return { raw, hash: keccak256(raw), nonce };
  } catch (error) {
    throw explainFailure(error);
  }
}

function refused(what: string, bound: string): ContractsError {
  return new ContractsError(
    'refused',
    `The endpoint says that ${what}, which is more than is plausible (${bound}): nothing was sent. Use another endpoint`,
  );
}

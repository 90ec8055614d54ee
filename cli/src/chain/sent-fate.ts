import { ContractsError } from '@dstack-cloud/contracts';
import { explainFailure, type SigningChain } from '@dstack-cloud/contracts/tasks';
import { type Hex, type PublicClient, TransactionReceiptNotFoundError } from 'viem';
import type { Context } from '../context.ts';
import { fromOthers } from './other-endpoints.ts';
import type { SentTransaction } from './sent-transactions.ts';

/** A command that was killed is repeated soon; the same call a day later is another one. */
const SAME_WISH_S = 3_600;

/** What became of a transaction that was signed: `over` allows another one for the same. */
export type Fate = {
  readonly state: 'waiting' | 'done' | 'over';
  /** Which one was done, of those with the same nonce. */
  readonly hash?: Hex;
};

/**
 * Over is what failed, was replaced, or is of long ago, and what the account did something after: that may have undone it. Code
 * that was deployed stays what it is. All endpoints have to say so: one that lies must not get a second transaction.
 * @throws ContractsError `not-confirmed` while it is not final that another transaction took its nonce
 */
export async function fateOf(
  context: Pick<Context, 'now' | 'warn'>,
  { chain, others }: { readonly chain: SigningChain; readonly others: readonly PublicClient[] },
  sent: SentTransaction,
): Promise<Fate> {
  const now = Math.floor(context.now().getTime() / 1_000);
  const seen = await Promise.all([
    fateAt(chain.public, sent, now).catch((error: unknown) => {
      throw explainFailure(error);
    }),
    fromOthers(context, others, (client) => fateAt(client, sent, now)),
  ]);
  const fates = seen.flat();
  const [first] = fates;
  if (fates.some(({ state }) => state === 'replaced')) {
    throw new ContractsError(
      'not-confirmed',
      `Another transaction of ${sent.from} has taken nonce ${sent.nonce}, that of ${sent.hash}, in a block that is not final: repeat the command when it is`,
    );
  }
  if (fates.every(({ state }) => state === first?.state)) return first as Fate;
  return (fates.find(({ state }) => state === 'done') ?? { state: 'waiting' }) as Fate;
}

async function fateAt(
  client: PublicClient,
  { hash, from, to, nonce, time, replaces = [] }: SentTransaction,
  now: number,
): Promise<Fate | { readonly state: 'replaced' }> {
  for (const one of [hash, ...replaces]) {
    const receipt = await ifThere(client.getTransactionReceipt({ hash: one }));
    if (receipt === undefined) continue;
    const isLast = to === undefined || (await client.getTransactionCount({ address: from })) <= nonce + 1;
    const counts = receipt.status === 'success' && now - time < SAME_WISH_S && isLast;
    return counts ? { state: 'done', hash: one } : { state: 'over' };
  }
  if ((await client.getTransactionCount({ address: from })) <= nonce) return { state: 'waiting' };
  // A node that is behind, or a block that goes again, must not make room for a second one.
  const final = await client
    .getTransactionCount({ address: from, blockTag: 'finalized' })
    .catch(() => Number.POSITIVE_INFINITY);
  return { state: final > nonce ? 'over' : 'replaced' };
}

/** Undefined for a transaction that is in no block. */
export async function ifThere<T>(receipt: Promise<T>): Promise<T | undefined> {
  return await receipt.catch((error: unknown) => {
    if (error instanceof TransactionReceiptNotFoundError) return undefined;
    throw error;
  });
}

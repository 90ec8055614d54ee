import { ContractsError } from '@dstack-cloud/contracts';
import { awaitReceipt, explainFailure, signTransaction } from '@dstack-cloud/contracts/tasks';
import type { Call } from '@dstack-cloud/governance';
import { type Hex, type TransactionReceipt, TransactionReceiptNotFoundError } from 'viem';
import type { Context } from '../context.ts';
import type { GovSession } from './connect-gov.ts';
import { requireSameReceipt } from './other-endpoints.ts';
import { type SentTransaction, SentTransactions } from './sent-transactions.ts';

/** A command that was killed is repeated soon; the same call a day later is another one. */
const SAME_WISH_S = 3_600;

/**
 * What an earlier command, which was killed or gave up, sent for the same call and may still come to pass, or just has.
 * One that failed or was replaced is forgotten.
 */
export async function sentBefore(
  context: Context,
  { chain }: Pick<GovSession, 'chain'>,
  call: Call,
): Promise<SentTransaction | undefined> {
  const sent = new SentTransactions(context);
  const { account } = await chain.signer();
  const found = await sent.find(chain.chain.id, account.address, call);
  if (found === undefined || (await isAlive(context, chain, found))) return found;
  await sent.locked(() => sent.remove(found.hash));
  return undefined;
}

/** Not failed, not replaced, and not of long ago. */
export async function isAlive(
  { now }: Pick<Context, 'now'>,
  { public: client }: GovSession['chain'],
  { hash, from, nonce, time }: SentTransaction,
): Promise<boolean> {
  const receipt = await client.getTransactionReceipt({ hash }).catch((error: unknown) => {
    if (error instanceof TransactionReceiptNotFoundError) return undefined;
    throw explainFailure(error);
  });
  if (receipt !== undefined) {
    return receipt.status === 'success' && Math.floor(now().getTime() / 1_000) - time < SAME_WISH_S;
  }
  return (await client.getTransactionCount({ address: from })) <= nonce;
}

/**
 * Sends a call, and waits until it is in a block. The signed transaction is on disk before it is sent: whoever repeats the
 * command waits for that one, and sends it again rather than another.
 */
export async function sendOnce(
  context: Context,
  session: GovSession,
  call: Call,
): Promise<TransactionReceipt> {
  const { chain } = session;
  const sent = new SentTransactions(context);
  const transaction = await sent.locked(async () => {
    const before = await sentBefore(context, session, call);
    if (before !== undefined) return before;
    const { account } = await chain.signer();
    const signed = await signTransaction(chain, call, session.maxCost);
    const { to, value, data } = call;
    const time = Math.floor(context.now().getTime() / 1_000);
    const entry = { chainId: chain.chain.id, from: account.address, to, value: value.toString(), data, time };
    await sent.add({ ...entry, ...signed });
    return { ...entry, ...signed };
  });
  const { hash, raw } = transaction;
  const forget = (): Promise<void> => sent.locked(() => sent.remove(hash));
  await broadcast(chain, raw, hash, forget);
  context.info(`Waiting for transaction ${hash}`);
  try {
    const receipt = await awaitReceipt(chain, hash);
    await requireSameReceipt(context, session, receipt);
    await forget();
    return receipt;
  } catch (error) {
    if (error instanceof ContractsError && error.code === 'transaction-reverted') await forget();
    throw error;
  }
}

/** Whether it is on its way is not known when nobody answers; when the endpoint refuses it, it is not. */
async function broadcast(
  { public: client }: GovSession['chain'],
  raw: Hex,
  hash: Hex,
  forget: () => Promise<void>,
): Promise<void> {
  try {
    await client.sendRawTransaction({ serializedTransaction: raw });
  } catch (error) {
    const known = await client.getTransaction({ hash }).catch(() => undefined);
    if (known !== undefined) return;
    const explained = explainFailure(error);
    const isRefused = explained instanceof ContractsError && explained.code !== 'chain-unreachable';
    if (isRefused) {
      await forget();
      throw explained;
    }
    throw new ContractsError(
      'not-confirmed',
      `Whether transaction ${hash} was sent is not known: the endpoint did not answer. Repeat the command: it sends the same transaction, never a second one`,
    );
  }
}

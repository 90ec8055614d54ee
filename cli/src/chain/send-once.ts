import { ContractsError } from '@dstack-cloud/contracts';
import {
  awaitReceipt,
  explainFailure,
  type Sender,
  type Sending,
  type SigningChain,
  signTransaction,
} from '@dstack-cloud/contracts/tasks';
import { type Hex, type PublicClient, type TransactionReceipt, TransactionReceiptNotFoundError } from 'viem';
import type { Context } from '../context.ts';
import { messageOf } from '../errors.ts';
import { requireSameReceipt } from './other-endpoints.ts';
import { type SentTransaction, SentTransactions } from './sent-transactions.ts';

/** A command that was killed is repeated soon; the same call a day later is another one. */
const SAME_WISH_S = 3_600;

/** Where transactions are sent, and what they may cost. */
export type Way = {
  readonly chain: SigningChain;
  /** Endpoints that have to confirm the receipt. */
  readonly others: readonly PublicClient[];
  /** Wei that one transaction may cost. */
  readonly maxCost: bigint;
};

/**
 * What an earlier command, which was killed or gave up, sent for the same and may still come to pass, or just has; not
 * what failed, was replaced or is long over.
 */
export async function sentBefore(
  context: Context,
  { chain }: Pick<Way, 'chain'>,
  sending: Sending,
): Promise<SentTransaction | undefined> {
  const { account } = await chain.signer();
  const found = await new SentTransactions(context).find(chain.chain.id, account.address, sending);
  return found === undefined || (await isAlive(context, chain, found)) ? found : undefined;
}

/**
 * Not failed, not replaced, and not of long ago. A call counts only while it is the last that the account did: what came
 * after it may have undone it. Code that was deployed stays what it is.
 */
export async function isAlive(
  { now }: Pick<Context, 'now'>,
  { public: client }: SigningChain,
  { hash, from, to, nonce, time }: SentTransaction,
): Promise<boolean> {
  const receipt = await client.getTransactionReceipt({ hash }).catch((error: unknown) => {
    if (error instanceof TransactionReceiptNotFoundError) return undefined;
    throw explainFailure(error);
  });
  const count = await client.getTransactionCount({ address: from });
  if (receipt === undefined) return count <= nonce;
  const isRecent = Math.floor(now().getTime() / 1_000) - time < SAME_WISH_S;
  return receipt.status === 'success' && isRecent && (to === undefined || count <= nonce + 1);
}

/**
 * Sends, and waits until it is in a block. The signed transaction is on disk before it is sent: whoever repeats the command
 * waits for that one, and sends it again rather than another.
 */
export async function sendOnce(
  context: Context,
  way: Way,
  sending: Sending,
  steps: Parameters<Sender['send']>[1] & { keep?: boolean } = {},
): Promise<{ receipt: TransactionReceipt; nonce: number }> {
  const { chain } = way;
  const sent = new SentTransactions(context);
  await sent.requireWritable();
  const transaction = await sent.locked(async () => {
    const before = await sentBefore(context, way, sending);
    if (before !== undefined) {
      await steps.announce?.(before);
      return before;
    }
    const { account } = await chain.signer();
    const signed = await signTransaction(chain, sending, way.maxCost);
    await steps.announce?.(signed);
    const { to, value = 0n, data } = sending;
    const time = Math.floor(context.now().getTime() / 1_000);
    const entry = {
      ...{ chainId: chain.chain.id, from: account.address, value: value.toString(), data, time },
      ...(to && { to }),
      ...signed,
    };
    await sent.add(entry);
    return entry;
  });
  const { hash, raw, nonce } = transaction;
  const forget = (): Promise<void> => sent.locked(() => sent.remove(hash));
  await broadcast(chain, raw, hash, () => forgetOrSay(context, forget));
  if (steps.sent) steps.sent(hash);
  else context.info(`Waiting for transaction ${hash}`);
  try {
    const receipt = await awaitReceipt(chain, hash);
    await requireSameReceipt(context, way, receipt);
    if (steps.keep !== true) await forgetOrSay(context, forget);
    return { receipt, nonce };
  } catch (error) {
    if (error instanceof ContractsError && error.code === 'transaction-reverted')
      await forgetOrSay(context, forget);
    throw explainFailure(error);
  }
}

/**
 * Sends the transactions of a task that may make several. All stay on disk until `done`, so that a repeated task goes on
 * where the interrupted one ended.
 */
export function onceSender(context: Context, way: Way): Sender & { done(): Promise<void> } {
  const made: Hex[] = [];
  return {
    sentBefore: async (sending) => (await sentBefore(context, way, sending))?.hash,
    send: async (sending, steps) => {
      const sent = await sendOnce(context, way, sending, { ...steps, keep: true });
      made.push(sent.receipt.transactionHash);
      return sent;
    },
    done: async () => {
      const sent = new SentTransactions(context);
      if (made.length > 0) await forgetOrSay(context, () => sent.locked(() => sent.remove(...made)));
    },
  };
}

/** What has happened on the chain has happened, also on a disk that is full by now. */
async function forgetOrSay(context: Context, forget: () => Promise<void>): Promise<void> {
  await forget().catch((error: unknown) => {
    context.warn(
      `The record of what was sent still has a transaction that is over: ${messageOf(error)}. For an hour the same command would wait for it in place of sending another`,
    );
  });
}

/** Whether it is on its way is not known when nobody answers; when the endpoint refuses it, it is not. */
async function broadcast(
  { public: client }: SigningChain,
  raw: Hex,
  hash: Hex,
  forget: () => Promise<void>,
): Promise<void> {
  try {
    await client.sendRawTransaction({ serializedTransaction: raw });
  } catch (error) {
    const known = await client.getTransaction({ hash }).catch(() => undefined);
    if (known !== undefined && known !== null) return;
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

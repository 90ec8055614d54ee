import { ContractsError } from '@dstack-cloud/contracts';
import {
  awaitReceipt,
  explainFailure,
  type Sender,
  type Sending,
  type SigningChain,
  signTransaction,
} from '@dstack-cloud/contracts/tasks';
import type { Hex, PublicClient, TransactionReceipt } from 'viem';
import type { Context } from '../context.ts';
import { messageOf } from '../errors.ts';
import { requireSameReceipt } from './other-endpoints.ts';
import { type Fate, fateOf, ifThere } from './sent-fate.ts';
import { MAX_REPLACED, type SentTransaction, SentTransactions } from './sent-transactions.ts';

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
 * what failed, was replaced, was refused or is long over.
 */
export async function sentBefore(
  context: Context,
  way: Pick<Way, 'chain' | 'others'>,
  sending: Sending,
): Promise<SentTransaction | undefined> {
  const found = await findSent(context, way, sending);
  return found !== undefined && isAwaited(found) ? found.entry : undefined;
}

type Found = { readonly entry: SentTransaction; readonly fate: Fate };

async function findSent(
  context: Context,
  way: Pick<Way, 'chain' | 'others'>,
  sending: Sending,
): Promise<Found | undefined> {
  const { chain } = way;
  const { account } = await chain.signer();
  const entry = await new SentTransactions(context).find(chain.chain.id, account.address, sending);
  if (entry === undefined) return undefined;
  const fate = await fateOf(context, way, entry);
  return fate.state === 'over' ? undefined : { entry, fate };
}

/** One that was refused is signed again, with the same nonce. */
function isAwaited({ entry, fate }: Found): boolean {
  return fate.state === 'done' || entry.refused !== true;
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
  const { transaction, made } = await sent.locked(async () => {
    const found = await findSent(context, way, sending);
    const before = found?.entry;
    if (found !== undefined && before !== undefined && isAwaited(found)) {
      await steps.announce?.(before);
      return { transaction: before, made: found.fate.hash ?? before.hash };
    }
    const { account } = await chain.signer();
    const signed = await signTransaction(chain, sending, way.maxCost, before?.nonce);
    await steps.announce?.(signed);
    const { to, value = 0n, data } = sending;
    const time = Math.floor(context.now().getTime() / 1_000);
    const entry = {
      ...{ chainId: chain.chain.id, from: account.address, value: value.toString(), data, time },
      ...(to && { to }),
      ...(before && { replaces: [before.hash, ...(before.replaces ?? [])].slice(0, MAX_REPLACED) }),
      ...signed,
    };
    await sent.add(entry);
    return { transaction: entry, made: entry.hash };
  });
  const { hash, raw, nonce } = transaction;
  const forget = (): Promise<void> => sent.locked(() => sent.remove(hash));
  await broadcast(chain, raw, made, () => sent.locked(() => sent.markRefused(hash)));
  if (steps.sent) steps.sent(made);
  else context.info(`Waiting for transaction ${made}`);
  void warnOfGap(context, way, transaction);
  try {
    const receipt = await receiptOf(chain, made, transaction.replaces);
    await requireSameReceipt(context, way, receipt);
    if (steps.keep !== true) await forgetOrSay(context, forget);
    return { receipt, nonce };
  } catch (error) {
    const isOver =
      error instanceof ContractsError &&
      error.code === 'transaction-reverted' &&
      (await fateOf(context, way, transaction)).state === 'over';
    if (isOver) await forgetOrSay(context, forget);
    throw explainFailure(error);
  }
}

/** The endpoint names the nonce: one that is too high makes a transaction that waits for others, which nobody may have made. */
async function warnOfGap(
  { warn }: Context,
  { chain, others }: Pick<Way, 'chain' | 'others'>,
  { from: address, nonce, hash }: Pick<SentTransaction, 'from' | 'nonce' | 'hash'>,
): Promise<void> {
  const asked = [chain.public, ...others].map((client) =>
    client.getTransactionCount({ address, blockTag: 'pending' }),
  );
  const counts = (await Promise.allSettled(asked)).flatMap((one) =>
    one.status === 'fulfilled' ? [one.value] : [],
  );
  const next = Math.min(...counts);
  if (next < nonce)
    warn(
      `Transaction ${hash} has nonce ${nonce}, and an endpoint says that the next one of ${address} is ${next}: it waits for those before it. If you sent none, the nonce was a lie, and it can wait for ever: send them, or act with another account`,
    );
}

/** Of the transaction, or of one that it was to replace and that came first after all. */
async function receiptOf(
  chain: SigningChain,
  hash: Hex,
  replaces: readonly Hex[] = [],
): Promise<TransactionReceipt> {
  try {
    return await awaitReceipt(chain, hash);
  } catch (error) {
    for (const other of replaces) {
      const receipt = await ifThere(chain.public.getTransactionReceipt({ hash: other }));
      if (receipt?.status === 'success') return await awaitReceipt(chain, other);
    }
    throw error;
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
  refused: () => Promise<void>,
): Promise<void> {
  try {
    await client.sendRawTransaction({ serializedTransaction: raw });
  } catch (error) {
    const known = await client.getTransaction({ hash }).catch(() => undefined);
    if (known !== undefined && known !== null) return;
    const explained = explainFailure(error);
    const isRefused = explained instanceof ContractsError && explained.code !== 'chain-unreachable';
    if (isRefused) {
      await refused();
      throw explained;
    }
    throw new ContractsError(
      'not-confirmed',
      `Whether transaction ${hash} was sent is not known: the endpoint did not answer. Repeat the command: it sends the same transaction, never a second one`,
    );
  }
}

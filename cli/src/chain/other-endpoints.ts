import { ContractsError } from '@dstack-cloud/contracts';
import { rpcTransport } from '@dstack-cloud/contracts/tasks';
import { GovernanceError } from '@dstack-cloud/governance';
import {
  BaseError,
  createPublicClient,
  type PublicClient,
  type TransactionReceipt,
  TransactionReceiptNotFoundError,
} from 'viem';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';

/** The endpoint that is asked first, and those that confirm what it says. */
type Endpoints = { readonly client: PublicClient; readonly others: readonly PublicClient[] };

/** More than anybody compares. */
const MAX_OTHERS = 8;
/** An endpoint may be some blocks behind. */
const RECEIPT_WAIT_MS = 60_000;

/** Endpoints that have to say the same as the first, from SECOND_RPC_URL: one, or several with commas between them. */
export function otherUrls(text: string | undefined): string[] {
  const urls = (text ?? '')
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '');
  if (urls.length > MAX_OTHERS)
    throw new CliError('bad_argument', `SECOND_RPC_URL names more than ${MAX_OTHERS} endpoints`);
  if (urls.every((url) => URL.canParse(url))) return urls;
  throw new CliError('bad_argument', 'SECOND_RPC_URL is no URL');
}

export function clientOf(url: string, timeoutMs: number, signal: AbortSignal): PublicClient {
  return createPublicClient({ transport: rpcTransport(url, { timeoutMs, signal }) }) as PublicClient;
}

/**
 * What the other endpoints answer: all at once, so that one that stalls holds up nobody for longer than its own time. Those
 * that do not answer are named and left out, but one at least has to.
 * @throws what an endpoint that answers says; GovernanceError `chain-unreachable` when none answers
 */
export async function fromOthers<T>(
  { warn }: Pick<Context, 'warn'>,
  others: readonly PublicClient[],
  ask: (client: PublicClient) => Promise<T>,
): Promise<T[]> {
  const settled = await Promise.allSettled(others.map(ask));
  const answers: T[] = [];
  const silent: string[] = [];
  for (const [index, one] of settled.entries()) {
    if (one.status === 'fulfilled') answers.push(one.value);
    else if (!isUnanswered(one.reason)) throw one.reason;
    else silent.push(hostOf(others[index]));
  }
  if (others.length > 0 && answers.length === 0) {
    throw new GovernanceError(
      'chain-unreachable',
      `The second endpoint at ${silent.join(', ')} does not answer`,
      {
        hint: 'Check SECOND_RPC_URL, name another endpoint in it too, or unset it',
      },
    );
  }
  for (const host of silent) warn(`The endpoint at ${host} does not answer: it confirms nothing`);
  return answers;
}

/** Asks every endpoint the same; each that answers has to succeed. @returns what the first says */
export async function fromAll<T>(
  context: Pick<Context, 'warn'>,
  { client, others }: Endpoints,
  ask: (client: PublicClient) => Promise<T>,
): Promise<T> {
  const [first] = await Promise.all([ask(client), fromOthers(context, others, ask)]);
  return first;
}

/** Another endpoint has the transaction too, in the same block. @throws GovernanceError `chain-inconsistent` */
export async function requireSameReceipt(
  context: Pick<Context, 'warn' | 'signal'>,
  { others }: Pick<Endpoints, 'others'>,
  { transactionHash: hash, blockHash, status }: TransactionReceipt,
): Promise<void> {
  const end = performance.now() + RECEIPT_WAIT_MS;
  const found = await fromOthers(context, others, async (client) => {
    for (;;) {
      const receipt = await client.getTransactionReceipt({ hash }).catch((error: unknown) => {
        if (error instanceof TransactionReceiptNotFoundError) return undefined;
        throw error;
      });
      if (receipt !== undefined || performance.now() > end) return receipt;
      await new Promise((resolve) => setTimeout(resolve, 500));
      context.signal.throwIfAborted();
    }
  });
  if (found.every((one) => one?.blockHash === blockHash && one.status === status)) return;
  throw disagreement(
    `transaction ${hash}`,
    `${status}, in block ${blockHash}`,
    found
      .map((one) => (one === undefined ? 'not there' : `${one.status}, in block ${one.blockHash}`))
      .join('; '),
  );
}

export function disagreement(what: string, expected: string, found: string): GovernanceError {
  return new GovernanceError('chain-inconsistent', `The endpoints do not agree on ${what}`, {
    ...{ expected, found },
    hint: 'One of them lies, is behind, or is on another chain: do nothing until you know which',
  });
}

/** Whether an endpoint gave no answer, which is no disagreement. */
function isUnanswered(error: unknown): boolean {
  if (error instanceof BaseError) return true;
  if (error instanceof CliError) return error.code === 'chain_unreachable';
  const unreachable = error instanceof GovernanceError || error instanceof ContractsError;
  return unreachable && error.code === 'chain-unreachable';
}

function hostOf(client: PublicClient | undefined): string {
  return new URL((client?.transport as { url?: string } | undefined)?.url ?? 'http://unknown').host;
}

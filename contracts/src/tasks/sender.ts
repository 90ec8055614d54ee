import type { Hash, TransactionReceipt } from 'viem';
import { awaitReceipt } from './await-receipt.ts';
import type { SigningChain } from './connect-task.ts';
import { type Sending, type SignedTransaction, signTransaction } from './sign-transaction.ts';

/** How transactions of the account reach the chain. */
export type Sender = {
  /** What an earlier run sent for the same, without having seen the end of it. */
  sentBefore(sending: Sending): Promise<Hash | undefined>;
  /**
   * Signs, sends, and waits for the block; or waits for what an earlier run sent.
   * @throws ContractsError `transaction-reverted`, `not-confirmed`, `refused`
   */
  send(
    sending: Sending,
    steps?: {
      /** Gets the signed transaction before it is sent. */
      readonly announce?: (signed: SignedTransaction) => Promise<void>;
      readonly sent?: (hash: Hash) => void;
    },
  ): Promise<{ readonly receipt: TransactionReceipt; readonly nonce: number }>;
};

/** Remembers nothing: whoever repeats an interrupted run sends again. */
export function directSender(chain: SigningChain, maxCost?: bigint): Sender {
  return {
    sentBefore: async () => undefined,
    send: async (sending, { announce, sent } = {}) => {
      const signed = await signTransaction(chain, sending, maxCost);
      await announce?.(signed);
      await chain.public.sendRawTransaction({ serializedTransaction: signed.raw });
      sent?.(signed.hash);
      return { receipt: await awaitReceipt(chain, signed.hash), nonce: signed.nonce };
    },
  };
}

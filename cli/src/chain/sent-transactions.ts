import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import type { Sending } from '@dstack-cloud/contracts/tasks';
import { isThere, withLock } from '@dstack-cloud/files';
import { GovernanceError } from '@dstack-cloud/governance';
import {
  type Address,
  type Hex,
  isAddressEqual,
  keccak256,
  parseTransaction,
  recoverTransactionAddress,
} from 'viem';
import { z } from 'zod';
import type { Context } from '../context.ts';
import { lockFolder } from '../project/project-lock.ts';

/** A transaction that was signed, and of which no receipt has been seen. */
export type SentTransaction = {
  readonly chainId: number;
  readonly from: Address;
  /** None creates a contract. */
  readonly to?: Address;
  readonly value: string;
  readonly data: Hex;
  readonly nonce: number;
  readonly hash: Hex;
  readonly raw: Hex;
  /** Unix seconds. */
  readonly time: number;
  /** An endpoint said that it does not take it: that may be a lie. */
  readonly refused?: boolean | undefined;
  /** Earlier ones for the same with the same nonce, which were refused: one of all these can come to pass. */
  readonly replaces?: readonly Hex[] | undefined;
};

const MAX_FILE = 16 * 1024 * 1024;
const MAX_ENTRIES = 64;
/** Of one wish that is refused again and again. */
export const MAX_REPLACED = 16;
/** What is older was found out about in another way. */
const KEPT_S = 7 * 86_400;
/** A second command waits for as long as signing may take a person. */
const WAIT_MS = 120_000;

const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/);
const bytes = z.string().regex(/^0x([0-9a-fA-F]{2})*$/);
const word = z.string().regex(/^0x[0-9a-f]{64}$/);
const schema = z.strictObject({
  version: z.literal(1),
  sent: z
    .array(
      z.strictObject({
        ...{
          chainId: z.int().positive(),
          from: address,
          to: address.optional(),
          value: z.string().regex(/^\d{1,78}$/),
        },
        ...{ data: bytes, nonce: z.int().nonnegative(), hash: word, raw: bytes, time: z.int() },
        ...{ refused: z.boolean().optional(), replaces: z.array(word).max(MAX_REPLACED).optional() },
      }),
    )
    .max(MAX_ENTRIES),
});

/**
 * Transactions that are on their way, in a file beside the proposals: a command that was killed after it sent one is repeated
 * without sending a second.
 */
export class SentTransactions {
  readonly #context: Context;
  readonly #path: string;

  constructor(context: Context) {
    this.#context = context;
    this.#path = join(context.directory, 'gov-sent.json');
  }

  /** Those of an account. @throws GovernanceError `bad-input` when the file is damaged */
  async of(chainId: number, from: Address): Promise<SentTransaction[]> {
    const all = await this.#read();
    return all.filter((one) => one.chainId === chainId && isAddressEqual(one.from, from));
  }

  /** That which makes this call. */
  async find(
    chainId: number,
    from: Address,
    { to, value = 0n, data }: Sending,
  ): Promise<SentTransaction | undefined> {
    return (await this.of(chainId, from)).find(
      (one) => isSameAddress(one.to, to) && one.value === value.toString() && one.data === data,
    );
  }

  /** In place of one that was alike and is over. */
  async add(sent: SentTransaction): Promise<void> {
    const isOther = ({ chainId, from, to, value, data }: SentTransaction): boolean =>
      ![chainId, from, to, value, data].every(
        (part, index) => part === [sent.chainId, sent.from, sent.to, sent.value, sent.data][index],
      );
    const kept = (await this.#read()).filter((one) => sent.time - one.time < KEPT_S && isOther(one));
    await this.#write([...kept.slice(1 - MAX_ENTRIES), sent]);
  }

  async remove(...hashes: readonly Hex[]): Promise<void> {
    const all = await this.#read();
    const kept = all.filter(
      ({ hash, replaces = [] }) => ![hash, ...replaces].some((one) => hashes.includes(one)),
    );
    if (kept.length < all.length) await this.#write(kept);
  }

  /** Whoever repeats the command signs another one with the same nonce, so that one of the two counts. */
  async markRefused(hash: Hex): Promise<void> {
    const all = await this.#read();
    await this.#write(all.map((one) => (one.hash === hash ? { ...one, refused: true } : one)));
  }

  /** Found out before anybody signs or is asked. @throws GovernanceError `bad-input` */
  async requireWritable(): Promise<void> {
    const probe = `${this.#path}.${randomBytes(8).toString('hex')}`;
    try {
      await writeFileAtomic(probe, 'x'.repeat(4_096), { mode: 0o600 });
    } catch (error) {
      throw new GovernanceError(
        'bad-input',
        `${this.#path} cannot be written: nothing was sent, because a command that is killed later could send it twice`,
        {
          cause: error,
          hint: 'Free space, or run the command in a folder that you may write: -C FOLDER',
        },
      );
    } finally {
      await rm(probe, { force: true });
    }
  }

  /** No two commands of this folder decide at once whether something has been sent. */
  async locked<T>(body: () => Promise<T>): Promise<T> {
    const folder = lockFolder(this.#context);
    if (folder === undefined) return await body();
    const name = `gov-sent-${keccak256(new TextEncoder().encode(this.#path)).slice(2, 34)}`;
    const options = { waitMs: WAIT_MS, what: this.#path, signal: this.#context.signal };
    return await withLock(folder, name, options, body);
  }

  async #read(): Promise<SentTransaction[]> {
    if (!isThere(this.#path)) return [];
    const text = new TextDecoder().decode(await readFileBounded(this.#path, MAX_FILE));
    try {
      const { sent } = schema.parse(JSON.parse(text)) as { sent: SentTransaction[] };
      if ((await Promise.all(sent.map(isGenuine))).every(Boolean)) return sent;
    } catch {
      // Told below.
    }
    throw new GovernanceError('bad-input', `${this.#path} is damaged: what was sent before is not known`, {
      hint: 'Look at what the account did on the chain (gov status, info), then remove the file',
    });
  }

  async #write(sent: readonly SentTransaction[]): Promise<void> {
    await writeFileAtomic(this.#path, `${JSON.stringify({ version: 1, sent }, null, 2)}\n`, { mode: 0o600 });
  }
}

/** The bytes are the transaction that the entry tells of, signed by its account: a claim proves nothing. */
async function isGenuine(one: SentTransaction): Promise<boolean> {
  if (keccak256(one.raw) !== one.hash) return false;
  const parsed = parseTransaction(one.raw as never) as Record<string, unknown>;
  const { chainId, nonce = 0, to, value = 0n, data = '0x' } = parsed;
  const from = await recoverTransactionAddress({ serializedTransaction: one.raw as never });
  return (
    isAddressEqual(from, one.from) &&
    isSameAddress((to ?? undefined) as Address | undefined, one.to) &&
    chainId === one.chainId &&
    nonce === one.nonce &&
    String(value) === one.value &&
    data === one.data
  );
}

function isSameAddress(one: Address | undefined, other: Address | undefined): boolean {
  return one === undefined || other === undefined ? one === other : isAddressEqual(one, other);
}

import { callLines, decodeMultiSend, type KnownContracts } from '@dstack-cloud/governance';
import { type Hex, isHex, zeroHash } from 'viem';
import type { Alert } from '../alerts/alert.ts';
import { callInWords } from '../alerts/proposal.ts';
import type { ChainReader } from '../chain/chain-reader.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { WaitingTransaction } from '../safe-service/waiting-transaction.ts';

/** Calls of one pass. */
const MAX_CALLS = 32;
/** One that did not fail is tried again after so long. */
const AGAIN_SECONDS = 600;

type Trial = {
  /** Of the alert. */
  readonly id: string;
  readonly what: string;
  readonly contract: string;
  readonly from: Hex;
  readonly call: { readonly target: string; readonly value: string; readonly data: string };
};

/**
 * Tries what is pending on the present state of the chain. Only what nothing else has to come before is tried: single
 * operations, the first call of a batch, and the next transactions of a Safe.
 */
export class Simulations {
  readonly #tried = new Map<string, number>();

  /**
   * @returns what would fail, and why something could not be tried, if so
   * @throws PolicyError when the chain cannot be read
   */
  async try(
    reader: ChainReader,
    model: GovernanceModel,
    waiting: readonly WaitingTransaction[],
    known: KnownContracts,
    now: number,
  ): Promise<{ readonly alerts: readonly Alert[]; readonly error: unknown }> {
    const all = [...ofTimelocks(model), ...ofSafes(waiting, known)].filter(
      // What was too long to keep cannot be tried.
      ({ call: { data, value } }) => isHex(data) && /^\d{1,78}$/.test(value),
    );
    const ids = new Set(all.map(({ id }) => id));
    for (const id of this.#tried.keys()) if (!ids.has(id)) this.#tried.delete(id);
    const due = all
      .filter(({ id }) => now - (this.#tried.get(id) ?? Number.NEGATIVE_INFINITY) >= AGAIN_SECONDS)
      .sort((a, b) => (this.#tried.get(a.id) ?? 0) - (this.#tried.get(b.id) ?? 0))
      .slice(0, MAX_CALLS);
    if (due.length === 0) return { alerts: [], error: undefined };
    const view = await reader.view();
    // Each for itself: what an endpoint makes of one must not hide the others.
    const outcomes = await Promise.allSettled(
      due.map(async ({ from, call }) => {
        const [outcome] = await reader.outcomes(view, view.finalized, [
          { from, to: call.target as Hex, value: BigInt(call.value), data: call.data as Hex },
        ]);
        return outcome!;
      }),
    );
    for (const { id } of due) this.#tried.set(id, now);
    const alerts = due.flatMap(({ id, what, contract, call }, index): Alert[] => {
      const outcome = outcomes[index]!;
      if (outcome.status === 'rejected' || !outcome.value.fails) return [];
      const { reason } = outcome.value;
      const why = reason === '' ? 'it reverts' : JSON.stringify(reason.slice(0, 200));
      const lines = callLines(callInWords(call, known)).join('; ');
      const text = `${what} would fail on the present state of the chain (${why}): ${lines}`.slice(0, 3_000);
      return [{ id, rule: 'failing-proposal', severity: 'critical', text, time: Math.floor(now), contract }];
    });
    const refused = outcomes.find(({ status }) => status === 'rejected');
    return { alerts, error: refused?.status === 'rejected' ? refused.reason : undefined };
  }
}

function ofTimelocks({ timelocks }: GovernanceModel): Trial[] {
  return [...timelocks].flatMap(([address, { operations }]) =>
    [...operations.values()].flatMap(({ id, state, calls, predecessor, scheduled }): Trial[] => {
      const [call] = calls;
      const isNext = predecessor === zeroHash || operations.get(predecessor)?.state === 'done';
      if (state !== 'pending' || call === undefined || !isNext) return [];
      return [
        {
          id: `${id}/${scheduled.tx}/failing-proposal`,
          what: `Operation ${id}`,
          contract: address,
          from: address as Hex,
          call,
        },
      ];
    }),
  );
}

function ofSafes(waiting: readonly WaitingTransaction[], known: KnownContracts): Trial[] {
  const next = new Map<string, bigint>();
  for (const { safe, tx } of waiting) {
    const before = next.get(safe);
    if (before === undefined || tx.nonce < before) next.set(safe, tx.nonce);
  }
  return waiting.flatMap(({ safe, hash, tx }): Trial[] => {
    if (tx.nonce !== next.get(safe)) return [];
    const isBatch = tx.operation === 1 && known.get(tx.to.toLowerCase())?.kind === 'multi-send';
    // Any other delegatecall is told as what it is.
    if (tx.operation === 1 && !isBatch) return [];
    const call = isBatch ? firstOf(tx.data) : tx;
    if (call === undefined) return [];
    return [
      {
        id: `${safe}/${hash}/failing-proposal`,
        what: `Transaction ${hash} of Safe ${safe}`,
        contract: safe,
        from: safe as Hex,
        call: { target: call.to, value: call.value.toString(), data: call.data },
      },
    ];
  });
}

/** Undefined for what is no batch. */
function firstOf(data: Hex): ReturnType<typeof decodeMultiSend>[number] | undefined {
  try {
    return decodeMultiSend(data)[0];
  } catch {
    return undefined;
  }
}

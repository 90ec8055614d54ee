import { performance } from 'node:perf_hooks';
import { BoundedMap, InFlight } from '@dstack-cloud/runtime';
import type { ContractDecision, DecisionRequest } from './decision-reader.ts';

/** More permissions than this at one block push out the oldest. */
const MAX_DECISIONS = 10_000;
/** Longer questions are asked each time: whoever asks an auth API chooses their length. */
const MAX_KEPT_CALL = 8_192;
/** Heads and finalized blocks of a few snapshots. */
const MAX_BLOCKS = 8;
/** Of so many requests it is known when they came last; the longest silent are forgotten first. */
const MAX_RECENT = 4_096;
/** The order of the recent ones is exact to so many milliseconds. */
const RECENT_STEP_MS = 500;

type Page = {
  readonly known: Map<string, ContractDecision>;
  readonly asked: InFlight<string, ContractDecision>;
};

/**
 * The permissions that were read, by block and question. A question pinned to a block hash always has the same answer,
 * so within a block one reading is enough, and of another block it says nothing. Denials and errors are not kept.
 */
export class DecisionCache {
  readonly #pages = new BoundedMap<string, Page>(MAX_BLOCKS);
  readonly #recent = new BoundedMap<string, { readonly request: DecisionRequest; readonly at: number }>(
    MAX_RECENT,
  );
  readonly #clock: () => number;

  /** @param clock monotonic milliseconds */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
  }

  /** The permission for `call` at the block, if it was read already. */
  known(blockHash: string, call: string): ContractDecision | undefined {
    return this.#pages.get(blockHash)?.known.get(call);
  }

  /** The decision at the block, asking at most once at a time. */
  get(
    blockHash: string,
    request: DecisionRequest,
    ask: () => Promise<ContractDecision>,
  ): Promise<ContractDecision> {
    const { known, asked } = this.#page(blockHash);
    const { call } = request;
    const found = known.get(call);
    if (found) return Promise.resolve(found);
    return asked.run(call, async () => {
      const decision = await ask();
      if (decision.allowed) this.write(blockHash, request, decision);
      else this.#strike(call);
      return decision;
    });
  }

  /** Keeps a permission that was read at the block. */
  write(blockHash: string, { call }: DecisionRequest, decision: ContractDecision): void {
    if (call.length > MAX_KEPT_CALL) return;
    this.#page(blockHash).known.set(call, decision);
  }

  /** Somebody asked this now. */
  touch(request: DecisionRequest): void {
    if (request.call.length > MAX_KEPT_CALL) return;
    const now = this.#clock();
    const before = this.#recent.get(request.call);
    if (before && now - before.at < RECENT_STEP_MS) return;
    this.#recent.set(request.call, { request, at: now });
  }

  /** What was asked within the last `withinMs` and is permitted at the block; the latest first. */
  recent(blockHash: string, withinMs: number): DecisionRequest[] {
    const known = this.#pages.get(blockHash)?.known;
    if (!known) return [];
    const since = this.#clock() - withinMs;
    return [...this.#recent.values()]
      .filter(({ request, at }) => at >= since && known.has(request.call))
      .map(({ request }) => request)
      .reverse();
  }

  /** Denied at one block: whoever asks again gets no older permission. */
  #strike(call: string): void {
    for (const { known } of this.#pages.values()) known.delete(call);
  }

  #page(blockHash: string): Page {
    const found = this.#pages.get(blockHash);
    if (found) return found;
    const page: Page = { known: new BoundedMap(MAX_DECISIONS), asked: new InFlight() };
    this.#pages.set(blockHash, page);
    return page;
  }
}

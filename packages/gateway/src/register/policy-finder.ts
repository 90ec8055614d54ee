import { setTimeout as sleep } from 'node:timers/promises';
import { BoundedMap } from '@dstack-cloud/runtime';
import type { Instance, PortPolicy } from '../routes/instance.ts';
import type { RoutingTable } from '../routes/routing-table.ts';
import { PolicyUnusable } from './ask-port-policy.ts';

/** Questions under way at once: each may hold an answer of megabytes. */
const MAX_ASKING = 8;
const RETRIES = 5;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
const MAX_UNUSABLE = 10_000;

export type PolicyFinderOptions = {
  readonly table: RoutingTable;
  /** @throws PolicyUnusable when asking again is of no use */
  readonly ask: (instance: Instance, signal: AbortSignal) => Promise<PortPolicy>;
  readonly learn: (instance: Instance, policy: PortPolicy) => Promise<unknown>;
  readonly onGivenUp: (instance: Instance, why: string) => void;
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<unknown>;
};

type Turn = { readonly instanceId: string; readonly tries: number; readonly waitMs: number };

/**
 * Finds out the port policies that guests did not report when they registered: until then their ports are closed. One
 * question per instance at a time; what is given up is asked for again when somebody wants it.
 */
export class PolicyFinder {
  readonly #options: PolicyFinderOptions;
  readonly #stop = new AbortController();
  /** Instances that are asked or wait for their turn. */
  readonly #wanted = new Set<string>();
  readonly #turns: Turn[] = [];
  /** Who showed something unusable, by instance: not asked again while it is the same. */
  readonly #unusable = new BoundedMap<string, string>(MAX_UNUSABLE);
  #asking = 0;

  constructor(options: PolicyFinderOptions) {
    this.#options = options;
  }

  /** Asks soon, unless it is asked already or there is no use. Costs next to nothing. */
  want(instance: Instance): void {
    const { instanceId } = instance;
    if (this.#stop.signal.aborted || this.#wanted.has(instanceId)) return;
    if (this.#unusable.get(instanceId) === sayerOf(instance)) return;
    this.#wanted.add(instanceId);
    this.#queue({ instanceId, tries: 0, waitMs: FIRST_WAIT_MS });
  }

  close(): void {
    this.#stop.abort();
    this.#turns.length = 0;
  }

  #queue(turn: Turn): void {
    this.#turns.push(turn);
    this.#next();
  }

  #next(): void {
    while (this.#asking < MAX_ASKING) {
      const turn = this.#turns.shift();
      if (turn === undefined) return;
      void this.#take(turn);
    }
  }

  async #take({ instanceId, tries, waitMs }: Turn): Promise<void> {
    const { wait = pause } = this.#options;
    const { signal } = this.#stop;
    this.#asking += 1;
    const isSettled = await this.#ask(instanceId, tries);
    // Whoever does not answer keeps nobody's turn while it is waited for.
    this.#asking -= 1;
    this.#next();
    if (isSettled) return void this.#wanted.delete(instanceId);
    await wait(waitMs, signal).catch(() => undefined);
    if (!signal.aborted)
      this.#queue({ instanceId, tries: tries + 1, waitMs: Math.min(2 * waitMs, LONGEST_WAIT_MS) });
  }

  async #ask(instanceId: string, tries: number): Promise<boolean> {
    const { table, ask, learn, onGivenUp } = this.#options;
    const { signal } = this.#stop;
    const instance = table.get(instanceId);
    if (instance === undefined || instance.portPolicy !== undefined) return true;
    try {
      await learn(instance, await ask(instance, signal));
      return true;
    } catch (error) {
      const isFinal = error instanceof PolicyUnusable;
      if (isFinal) this.#unusable.set(instanceId, sayerOf(instance));
      if (signal.aborted || (!isFinal && tries < RETRIES)) return false;
      onGivenUp(instance, error instanceof Error ? error.message : String(error));
      return true;
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<unknown> {
  return sleep(ms, undefined, { signal });
}

/** Who says something: with another key or app-compose, it may say something else. */
function sayerOf({ composeHash, publicKey }: Instance): string {
  return `${composeHash} ${publicKey}`;
}

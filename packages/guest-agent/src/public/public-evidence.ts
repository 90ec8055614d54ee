import type { IncomingMessage } from 'node:http';
import { RpcError } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { KeptAnswers } from './kept-answers.ts';
import type { PublicLimits } from './public-limits.ts';

/** Evidence over the same data proves no freshness, so one is kept for this time, or until an event is emitted. */
const KEEP_MS = 60_000;

/** Evidence for strangers: one budget, whatever they ask it from. */
export class PublicEvidence {
  readonly #agent: Agent;
  readonly #limits: PublicLimits;
  readonly #kept: KeptAnswers<unknown>;

  constructor(agent: Agent, limits: PublicLimits, clock?: () => number) {
    this.#agent = agent;
    this.#limits = limits;
    this.#kept = new KeptAnswers(KEEP_MS, clock);
  }

  /** Evidence for this caller alone. @throws RpcError `RATE_LIMITED`, status 429 */
  fresh<T>(request: IncomingMessage, make: () => Promise<T>): Promise<T> {
    if (this.#limits.takeEvidence(request)) return make();
    const text = 'Too many requests for evidence; try again in a second';
    return Promise.reject(new RpcError(text, { code: 'RATE_LIMITED', status: 429 }));
  }

  /** Evidence that is the same for everybody; only who has it made pays. @throws RpcError `RATE_LIMITED`, status 429 */
  shared<T>(name: string, request: IncomingMessage, make: () => Promise<T>): Promise<T> {
    return this.#kept.get(name, this.#agent.local.version, () => this.fresh(request, make)) as Promise<T>;
  }
}

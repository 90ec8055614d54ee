import { performance } from 'node:perf_hooks';

/** Endpoints are upgraded, and balancers have backends of several kinds: what was refused is tried again after it. */
const REMEMBERED_MS = 10 * 60_000;
/** A failure that may have had another reason counts when it happened so many times in a row. */
const DOUBTS = 2;

/** One thing that an endpoint may not be able to do. */
export class Lack {
  readonly #onKnown: () => void;
  #until = Number.NEGATIVE_INFINITY;
  #doubts = 0;
  #proved = false;

  constructor(onKnown: () => void) {
    this.#onKnown = onKnown;
  }

  /** It is done in another way for now. */
  get known(): boolean {
    return performance.now() < this.#until;
  }

  /** It was seen to work, by this endpoint or by one of several behind its address. */
  get proved(): boolean {
    return this.#proved;
  }

  /** It failed, and the other way worked. @param sure whether the endpoint said that this is why */
  note(sure: boolean): void {
    this.#doubts += 1;
    if (!sure && this.#doubts < DOUBTS) return;
    const { known } = this;
    this.#until = performance.now() + REMEMBERED_MS;
    this.#doubts = 0;
    this.#proved = false;
    if (!known) this.#onKnown();
  }

  /** It worked. */
  disprove(): void {
    this.#doubts = 0;
    this.#proved = true;
  }
}

/** What an endpoint was found not to do. */
export type Lacks = {
  /** Several calls in one exchange. */
  readonly batches: Lack;
  /** A block's hash where a block is meant (EIP-1898), in `eth_call` … */
  readonly callsByHash: Lack;
  /** … and in `eth_getProof` and `eth_getCode`. */
  readonly proofsByHash: Lack;
};

/** @param onKnown told in words when one is found */
export function newLacks(onKnown: (what: string) => void): Lacks {
  const lack = (what: string): Lack => new Lack(() => onKnown(what));
  return {
    batches: lack('takes no batches: calls are sent one by one'),
    callsByHash: lack('takes no block hash in eth_call (EIP-1898): blocks are named by number, and checked'),
    proofsByHash: lack('takes no block hash in eth_getProof (EIP-1898): blocks are named by number'),
  };
}

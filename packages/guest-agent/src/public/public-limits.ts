import type { IncomingMessage } from 'node:http';
import { networkOf, TokenBuckets } from '@dstack-cloud/prpc';

/** Pieces of evidence for strangers: a burst, then so many a minute; a quote may take the hardware a second. */
const EVIDENCE = { perMinute: 240, burst: 16 };
/** Of them, for one network: half of the burst and a quarter of the rate leave room for others. */
const EVIDENCE_OF_NETWORK = { perMinute: 60, burst: 8 };
/** Log streams at the same time. */
const STREAMS = 32;
const STREAMS_OF_NETWORK = 8;

const ALL = 'all';

/**
 * What strangers may make this machine do, over everything that the external listener serves. Nothing is given back: what
 * was spent for a caller who went away was spent.
 */
export class PublicLimits {
  readonly #evidence: TokenBuckets;
  readonly #evidenceOfNetwork: TokenBuckets;
  readonly #streams = new Map<string, number>();
  #open = 0;

  /** @param clock milliseconds that never go back */
  constructor(clock: () => number = () => performance.now()) {
    const buckets = ({ perMinute, burst }: typeof EVIDENCE) => new TokenBuckets(perMinute, burst, clock);
    this.#evidence = buckets(EVIDENCE);
    this.#evidenceOfNetwork = buckets(EVIDENCE_OF_NETWORK);
  }

  /** Takes what one piece of evidence costs. */
  takeEvidence(request: IncomingMessage): boolean {
    // The network's own share first: who has spent it takes nothing from the others.
    return this.#evidenceOfNetwork.take(sourceOf(request)) && this.#evidence.take(ALL);
  }

  /** A place for a stream, to be given back by calling it; undefined when there is none. */
  takeStream(request: IncomingMessage): (() => void) | undefined {
    const network = sourceOf(request);
    const own = this.#streams.get(network) ?? 0;
    if (this.#open >= STREAMS || own >= STREAMS_OF_NETWORK) return undefined;
    this.#open += 1;
    this.#streams.set(network, own + 1);
    return () => {
      const left = (this.#streams.get(network) ?? 1) - 1;
      if (left > 0) this.#streams.set(network, left);
      else this.#streams.delete(network);
      this.#open -= 1;
    };
  }
}

function sourceOf({ socket }: IncomingMessage): string {
  return networkOf(socket.remoteAddress ?? '');
}

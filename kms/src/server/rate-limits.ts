import { AttestationError, type BootInfo } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { RpcError } from '@dstack-cloud/prpc';
import { RaTlsError } from '@dstack-cloud/ra-tls';
import type { KmsConfig } from '../config/kms-config.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/** Names remembered per limit; the oldest is forgotten, which gives it a full bucket again. */
const MAX_BUCKETS = 65_536;

/** Who may ask how often (chapter 10 section 10.2). */
export type RateLimits = {
  /** Counts an open request of one address. @throws RpcError `RATE_LIMITED`, status 429 */
  open(address: string): void;
  /** Counts an attested request of one workload instance. @throws RpcError `RATE_LIMITED`, status 429 */
  attested(info: Pick<BootInfo, 'appId' | 'instanceId' | 'deviceId'>): void;
  /**
   * Judges evidence that an address shows; what is refused for what it is counts. Forged evidence costs the sender
   * nothing, so its number is bounded before anybody looks at it.
   * @throws RpcError `RATE_LIMITED`, status 429; what `judge` throws
   */
  evidence<T>(address: string, judge: () => Promise<T>): Promise<T>;
  /** Whether an address has shown so much refused evidence that not even a handshake is worth while now. */
  mayConnect(address: string): boolean;
};

type Bucket = { tokens: number; at: number };

/** @param now monotonic milliseconds, so that a clock that is set does not refill or starve anybody */
export function rateLimits(
  { core: { rate_limit: limit } }: KmsConfig,
  metrics: Metrics,
  now: () => number = () => performance.now(),
): RateLimits {
  if (!limit.enabled) {
    return {
      open: () => undefined,
      attested: () => undefined,
      evidence: (_, judge) => judge(),
      mayConnect: () => true,
    };
  }
  const open = new TokenBuckets(limit.open_per_minute, limit.open_burst, now);
  const attested = new TokenBuckets(limit.attested_per_minute, limit.attested_burst, now);
  const refused = new TokenBuckets(limit.refused_evidence_per_minute, limit.refused_evidence_burst, now);
  const take = (buckets: TokenBuckets, name: string): void => {
    if (buckets.take(name)) return;
    metrics.rateLimited.inc();
    throw new RpcError('Too many requests; try again later', { code: 'RATE_LIMITED', status: 429 });
  };
  return {
    open: (address) => take(open, networkOf(address)),
    attested: ({ appId, instanceId, deviceId }) =>
      take(attested, `${toHex(appId)}/${toHex(instanceId)}/${toHex(deviceId)}`),
    async evidence(address, judge) {
      const network = networkOf(address);
      // Taken before, so that many at once count as well, and given back for what is good.
      take(refused, network);
      try {
        const result = await judge();
        refused.give(network);
        return result;
      } catch (error) {
        if (!isVerdict(error)) refused.give(network);
        throw error;
      }
    },
    mayConnect: (address) => refused.has(networkOf(address)),
  };
}

/** Overload, and collateral that cannot be had, say nothing about the evidence. */
function isVerdict(error: unknown): boolean {
  if (!(error instanceof RaTlsError)) return false;
  return !(error.cause instanceof AttestationError && error.cause.code === 'collateral-unavailable');
}

/** An IPv6 host has at least a /64 for itself, so that is what is counted. */
function networkOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address;
  return address.split(':').slice(0, 4).join(':');
}

class TokenBuckets {
  readonly #perMs: number;
  readonly #capacity: number;
  readonly #now: () => number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(perMinute: number, burst: number, now: () => number) {
    this.#perMs = perMinute / 60_000;
    this.#capacity = Math.max(1, burst);
    this.#now = now;
  }

  has(name: string): boolean {
    return this.#level(name) >= 1;
  }

  /** Takes one; false when there is none. */
  take(name: string): boolean {
    const tokens = this.#level(name);
    this.#set(name, tokens >= 1 ? tokens - 1 : tokens);
    return tokens >= 1;
  }

  give(name: string): void {
    this.#set(name, Math.min(this.#capacity, this.#level(name) + 1));
  }

  #level(name: string): number {
    const bucket = this.#buckets.get(name);
    if (bucket === undefined) return this.#capacity;
    return Math.min(this.#capacity, bucket.tokens + (this.#now() - bucket.at) * this.#perMs);
  }

  #set(name: string, tokens: number): void {
    this.#buckets.delete(name);
    this.#buckets.set(name, { tokens, at: this.#now() });
    if (this.#buckets.size > MAX_BUCKETS) this.#buckets.delete(this.#buckets.keys().next().value!);
  }
}

import { AttestationError, type BootInfo } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { networkOf, RpcError, TokenBuckets } from '@dstack-cloud/prpc';
import { RaTlsError } from '@dstack-cloud/ra-tls';
import type { KmsConfig } from '../config/kms-config.ts';
import type { Metrics } from '../telemetry/metrics.ts';

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

/** So many tokens of a name were taken; negative when they were given back. */
export type Taken = readonly [limit: LimitName, name: string, tokens: number];

/** How full the bucket of a name is now. */
export type BucketLevel = readonly [limit: LimitName, name: string, tokens: number];

/** Rate limits of a service of several processes, each with all buckets, which tell each other what is taken. */
export type SharedRateLimits = RateLimits & {
  /**
   * Counts what other processes took. They may have taken before they knew of each other; the bucket then goes below
   * empty, so that the rate holds all the same.
   */
  count(taken: readonly Taken[]): void;
  /** All buckets that are not full, for a process that begins. */
  levels(): BucketLevel[];
  setLevels(levels: readonly BucketLevel[]): void;
};

export type RateLimitOptions = {
  /** Monotonic milliseconds, so that a clock that is set does not refill or starve anybody. */
  readonly now?: () => number;
  /** Told of every token that is taken or given back here. */
  readonly onTaken?: (...taken: Taken) => void;
};

type LimitName = 'open' | 'attested' | 'refused';

export function rateLimits(
  { core: { rate_limit: limit } }: KmsConfig,
  metrics: Metrics,
  { now = () => performance.now(), onTaken }: RateLimitOptions = {},
): SharedRateLimits {
  if (!limit.enabled) {
    return {
      open: () => undefined,
      attested: () => undefined,
      evidence: (_, judge) => judge(),
      mayConnect: () => true,
      count: () => undefined,
      levels: () => [],
      setLevels: () => undefined,
    };
  }
  const bucketsOf = (name: LimitName, perMinute: number, burst: number): TokenBuckets =>
    new TokenBuckets(perMinute, burst, now, (key, tokens) => onTaken?.(name, key, tokens));
  const open = bucketsOf('open', limit.open_per_minute, limit.open_burst);
  const attested = bucketsOf('attested', limit.attested_per_minute, limit.attested_burst);
  const refused = bucketsOf('refused', limit.refused_evidence_per_minute, limit.refused_evidence_burst);
  const all: Readonly<Record<LimitName, TokenBuckets>> = { open, attested, refused };
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
    count: (taken) => {
      for (const [limitName, name, tokens] of taken) all[limitName].count(name, tokens);
    },
    levels: () =>
      Object.entries(all).flatMap(([limitName, buckets]) =>
        buckets.levels().map(([name, tokens]): BucketLevel => [limitName as LimitName, name, tokens]),
      ),
    setLevels: (levels) => {
      for (const [limitName, name, tokens] of levels) all[limitName].setLevel(name, tokens);
    },
  };
}

/** Overload, and collateral that cannot be had, say nothing about the evidence. */
function isVerdict(error: unknown): boolean {
  if (!(error instanceof RaTlsError)) return false;
  return !(error.cause instanceof AttestationError && error.cause.code === 'collateral-unavailable');
}

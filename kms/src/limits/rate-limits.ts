import { AttestationError, type CollateralVendor, type FetchPermit } from '@dstack-cloud/attestation';
import { networkOf, RpcError, TokenBuckets } from '@dstack-cloud/prpc';
import type { KmsConfig } from '../config/kms-config.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/** Whoever shows something that is verified. */
export type Prover = {
  readonly network: string;
  /** Asked before a vendor is, for the sake of what this prover shows. */
  readonly permit: FetchPermit;
};

/** Who may ask how often. What an attacker chose is never given back. */
export type RateLimits = {
  /** Counts an open request of one address. @throws RpcError `RATE_LIMITED`, status 429 */
  open(address: string): void;
  /**
   * Verifies what an address shows. It is counted before anybody looks at it, and given back when it is good: of forged
   * evidence, which costs its sender nothing, an address has so much.
   * @param isExcused errors that say nothing against what was shown, and that nobody who shows it can cause
   * @throws RpcError `RATE_LIMITED`, status 429; what `verify` throws
   */
  shown<T>(
    address: string,
    verify: (prover: Prover) => Promise<T>,
    isExcused?: (error: unknown) => boolean,
  ): Promise<T>;
  /** Counts a request of a verified workload. @throws RpcError `RATE_LIMITED`, status 429 */
  workload(name: string): void;
  /** Counts a release to an application that is allowed to have it. @throws RpcError `RATE_LIMITED`, status 429 */
  release(application: string): void;
  /** Whether an address has shown so much that was refused that not even a handshake is worth while now. */
  mayConnect(address: string): boolean;
};

/** So many tokens of a name were taken; negative when they were given back. */
export type Consumed = readonly [limit: LimitName, name: string, tokens: number];

/** How full the bucket of a name is now. */
export type BucketLevel = readonly [limit: LimitName, name: string, tokens: number];

/** Rate limits of a service of several processes, each with all buckets, which tell each other what is taken. */
export type SharedRateLimits = RateLimits & {
  /**
   * Counts what other processes took. They may have taken before they knew of each other; the bucket then goes below
   * empty, so that the rate holds all the same.
   */
  count(taken: readonly Consumed[]): void;
  /** All buckets that are not full, for a process that begins. */
  levels(): BucketLevel[];
  setLevels(levels: readonly BucketLevel[]): void;
};

export type RateLimitOptions = {
  /** Monotonic milliseconds, so that a clock that is set does not refill or starve anybody. */
  readonly now?: () => number;
  /** Told of every token that is taken or given back here. */
  readonly onConsumed?: (...taken: Consumed) => void;
};

type LimitName = 'open' | 'workload' | 'release' | 'shown' | 'collateral' | 'vendor';

export function rateLimits(
  { core: { rate_limit: limit } }: KmsConfig,
  metrics: Metrics,
  { now = () => performance.now(), onConsumed }: RateLimitOptions = {},
): SharedRateLimits {
  if (!limit.enabled) {
    return {
      open: () => undefined,
      shown: (address, verify) => verify({ network: networkOf(address), permit: () => undefined }),
      workload: () => undefined,
      release: () => undefined,
      mayConnect: () => true,
      count: () => undefined,
      levels: () => [],
      setLevels: () => undefined,
    };
  }
  const bucketsOf = (name: LimitName, perMinute: number, burst: number): TokenBuckets =>
    new TokenBuckets(perMinute, burst, now, (key, tokens) => onConsumed?.(name, key, tokens));
  const open = bucketsOf('open', limit.open_per_minute, limit.open_burst);
  const workload = bucketsOf('workload', limit.attested_per_minute, limit.attested_burst);
  const release = bucketsOf('release', limit.app_per_minute, limit.app_burst);
  const shown = bucketsOf('shown', limit.refused_evidence_per_minute, limit.refused_evidence_burst);
  const { collateral_per_minute: ofAddress, vendor_per_minute: ofVendor } = limit;
  const collateral = bucketsOf('collateral', ofAddress, ofAddress);
  const vendor = bucketsOf('vendor', ofVendor, ofVendor);
  const all: Readonly<Record<LimitName, TokenBuckets>> = {
    open,
    workload,
    release,
    shown,
    collateral,
    vendor,
  };
  const take = (buckets: TokenBuckets, name: string): void => {
    if (buckets.take(name)) return;
    metrics.rateLimited.inc();
    throw new RpcError('Too many requests; try again later', { code: 'RATE_LIMITED', status: 429 });
  };
  /** A share of each vendor for one network, so that nobody uses up what all may ask for. */
  const permitOf = (network: string) => (name: CollateralVendor, requests: number) => {
    if (collateral.take(`${name} ${network}`, requests) && vendor.take(name, requests)) return;
    metrics.rateLimited.inc();
    throw new AttestationError(
      'collateral-unavailable',
      `Too many requests for collateral of ${name}; try again later`,
    );
  };
  return {
    open: (address) => take(open, networkOf(address)),
    async shown(address, verify, isExcused = () => false) {
      const network = networkOf(address);
      // Consumed before, so that many at once count as well.
      take(shown, network);
      try {
        const result = await verify({ network, permit: permitOf(network) });
        shown.give(network);
        return result;
      } catch (error) {
        if (isExcused(error)) shown.give(network);
        throw error;
      }
    },
    workload: (name) => take(workload, name),
    release: (application) => take(release, application),
    mayConnect: (address) => shown.has(networkOf(address)),
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

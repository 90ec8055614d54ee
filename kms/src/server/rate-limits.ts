import type { BootInfo } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { RpcError } from '@dstack-cloud/prpc';
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
};

type Bucket = { tokens: number; at: number };

/** @param now monotonic milliseconds, so that a clock that is set does not refill or starve anybody */
export function rateLimits(
  { core: { rate_limit: limit } }: KmsConfig,
  metrics: Metrics,
  now: () => number = () => performance.now(),
): RateLimits {
  if (!limit.enabled) return { open: () => undefined, attested: () => undefined };
  const open = tokenBuckets(limit.open_per_minute, limit.open_burst, now);
  const attested = tokenBuckets(limit.attested_per_minute, limit.attested_burst, now);
  const refuse = (): never => {
    metrics.rateLimited.inc();
    throw new RpcError('Too many requests; try again later', { code: 'RATE_LIMITED', status: 429 });
  };
  return {
    open: (address) => {
      if (!open(networkOf(address))) refuse();
    },
    attested: ({ appId, instanceId, deviceId }) => {
      if (!attested(`${toHex(appId)}/${toHex(instanceId)}/${toHex(deviceId)}`)) refuse();
    },
  };
}

/** An IPv6 host has at least a /64 for itself, so that is what is counted. */
function networkOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address;
  return address.split(':').slice(0, 4).join(':');
}

function tokenBuckets(perMinute: number, burst: number, now: () => number): (name: string) => boolean {
  const capacity = Math.max(1, burst);
  const buckets = new Map<string, Bucket>();
  return (name) => {
    const at = now();
    const before = buckets.get(name) ?? { tokens: capacity, at };
    const tokens = Math.min(capacity, before.tokens + ((at - before.at) / 60_000) * perMinute);
    buckets.delete(name);
    buckets.set(name, { tokens: tokens >= 1 ? tokens - 1 : tokens, at });
    if (buckets.size > MAX_BUCKETS) buckets.delete(buckets.keys().next().value!);
    return tokens >= 1;
  };
}

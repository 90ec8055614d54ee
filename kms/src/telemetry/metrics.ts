import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Metrics of one KMS process, with the names of docs/protocol/kms.md section 4.2. */
export type Metrics = {
  readonly registry: Registry;
  /** Run before each scrape: sets gauges that follow something else. */
  readonly beforeScrape: (() => Promise<void>)[];
  readonly attestationRequests: Counter;
  readonly attestationFailures: Counter;
  readonly rpcRequests: Counter<'method' | 'result'>;
  readonly rpcDuration: Histogram<'method'>;
  readonly attestationVerifications: Counter<'platform' | 'result'>;
  readonly authRequests: Counter<'result'>;
  readonly authDuration: Histogram;
  readonly policyInfoFailures: Counter;
  readonly onchainSyncLag: Gauge;
  readonly keyDispatch: Counter<'result'>;
  readonly imageCacheHits: Counter;
  readonly imageCacheMisses: Counter;
  readonly rateLimited: Counter;
  readonly refused: Counter<'step'>;
  readonly loginFailures: Counter<'listener' | 'result'>;
  readonly tlsHandshakes: Counter<'result'>;
  readonly rpcCertExpiry: Gauge;
  readonly auditRecords: Counter<'result'>;
  readonly workers: Gauge;
  readonly workerRestarts: Counter;
};

/**
 * Steps at which something is refused, in their order: before the handshake, in it, by its certificate; the request's
 * form, page, method, body and encoding; a rate; credential or evidence; what is asked for; the policy; the service itself.
 */
const REFUSED_STEPS = [
  'connection',
  'handshake',
  'certificate',
  'cut',
  'http',
  'page',
  'method',
  'body',
  'decode',
  'rate',
  'login',
  'evidence',
  'request',
  'policy',
  'service',
] as const;
export type RefusedStep = (typeof REFUSED_STEPS)[number];

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** @param info shown as labels of `dstack_kms_build_info` and as gauges */
export function createMetrics(info: {
  version: string;
  simulated: boolean;
  imageVerified: boolean;
}): Metrics {
  const registers = [new Registry()];
  const registry = registers[0]!;
  const counter = <L extends string = never>(name: string, help: string, labelNames: L[] = []): Counter<L> =>
    new Counter({ name: `dstack_kms_${name}`, help, labelNames, registers });
  // Workers agree on most gauges; where they do not, the one that gives more cause for alarm counts.
  const gauge = (name: string, help: string, aggregator: 'max' | 'min' = 'max'): Gauge =>
    new Gauge({ name: `dstack_kms_${name}`, help, registers, aggregator });
  const metrics: Metrics = {
    registry,
    beforeScrape: [],
    attestationRequests: counter('attestation_requests_total', 'Total number of KMS attestation requests.'),
    attestationFailures: counter(
      'attestation_failures_total',
      'Total number of failed KMS attestation requests.',
    ),
    rpcRequests: counter('rpc_requests_total', 'RPC requests by method and result.', ['method', 'result']),
    rpcDuration: new Histogram({
      name: 'dstack_kms_rpc_duration_seconds',
      help: 'Duration of RPC requests.',
      labelNames: ['method'],
      buckets: SECONDS,
      registers,
    }),
    attestationVerifications: counter('attestation_verifications_total', 'Verifications of evidence.', [
      'platform',
      'result',
    ]),
    authRequests: counter('auth_requests_total', 'Decisions asked of the policy source.', ['result']),
    authDuration: new Histogram({
      name: 'dstack_kms_auth_duration_seconds',
      help: 'Duration of policy decisions.',
      buckets: SECONDS,
      registers,
    }),
    policyInfoFailures: counter(
      'policy_info_failures_total',
      'Failed questions to the policy source about itself, whose answers GetMeta shows.',
    ),
    onchainSyncLag: gauge('onchain_sync_lag_seconds', 'Age of the block that the last decision was read at.'),
    keyDispatch: counter('key_dispatch_total', 'Releases of keys by result.', ['result']),
    imageCacheHits: counter(
      'image_cache_hits_total',
      'OS images, or their measurements, found in the cache.',
    ),
    imageCacheMisses: counter('image_cache_misses_total', 'OS images that had to be downloaded.'),
    rateLimited: counter('rate_limited_total', 'Requests refused by a rate limit.'),
    refused: counter('refused_total', 'What was refused, by the step at which it was.', ['step']),
    loginFailures: counter(
      'login_failures_total',
      'Requests without the credential that they need; limited: not looked at, after too many wrong ones.',
      ['listener', 'result'],
    ),
    tlsHandshakes: counter(
      'tls_handshakes_total',
      'TLS handshakes by result; turned-away: the connection was closed before one.',
      ['result'],
    ),
    rpcCertExpiry: gauge(
      'rpc_cert_expiry_timestamp_seconds',
      'Unix time at which the RPC certificate ends.',
      'min',
    ),
    auditRecords: counter('audit_records_total', 'Records written to the audit log.', ['result']),
    workers: gauge('workers', 'Processes that serve.'),
    workerRestarts: counter(
      'worker_restarts_total',
      'Workers that ended unexpectedly and were started again.',
    ),
  };
  // An alert sees the first failure only where there was a zero before.
  for (const result of ['allowed', 'denied', 'error', 'stale', 'no-quorum', 'unavailable']) {
    metrics.authRequests.inc({ result }, 0);
  }
  for (const step of REFUSED_STEPS) metrics.refused.inc({ step }, 0);
  for (const listener of ['admin', 'onboard', 'main']) {
    for (const result of ['missing', 'wrong', 'limited']) metrics.loginFailures.inc({ listener, result }, 0);
  }
  for (const result of ['written', 'failed']) metrics.auditRecords.inc({ result }, 0);
  for (const result of ['released', 'denied']) metrics.keyDispatch.inc({ result }, 0);
  for (const result of ['accepted', 'refused', 'handshake-failed', 'turned-away']) {
    metrics.tlsHandshakes.inc({ result }, 0);
  }
  for (const result of ['ok', 'error']) metrics.rpcRequests.inc({ method: 'GetAppKey', result }, 0);
  new Gauge({
    name: 'dstack_kms_build_info',
    help: 'Constant 1, with the version as label.',
    labelNames: ['version'],
    registers,
    aggregator: 'first',
  }).set({ version: info.version }, 1);
  gauge('simulated', '1 when a trust root that is not the vendor is configured.').set(info.simulated ? 1 : 0);
  gauge('image_verification', '1 when OS images are verified.', 'min').set(info.imageVerified ? 1 : 0);
  const started = gauge('start_time_seconds', 'Unix time at which the process started.', 'min');
  started.set(Math.floor(Date.now() / 1000));
  return metrics;
}

/** One metric as JSON, as another process can add it up. */
export type MetricJson = Awaited<ReturnType<Registry['getMetricsAsJSON']>>[number];

/**
 * The metrics of this process.
 * @param isScrape gauges that follow something else are set first, which may ask the network
 */
export async function readMetrics(
  { registry, beforeScrape }: Metrics,
  isScrape: boolean,
): Promise<MetricJson[]> {
  if (isScrape) await Promise.all(beforeScrape.map((refresh) => refresh()));
  return registry.getMetricsAsJSON();
}

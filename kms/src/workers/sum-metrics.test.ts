import { expect, test } from 'vitest';
import { createMetrics, type Metrics, readMetrics } from '../telemetry/metrics.ts';
import { addEnded, sumMetrics } from './sum-metrics.ts';

const create = (): Metrics => createMetrics({ version: '1', simulated: false, imageVerified: true });
const metricIn = (text: string, name: string) =>
  Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(' ')[1],
  );

test('counters and histograms add up, gauges speak for the service', async () => {
  const [primary, one, two] = [create(), create(), create()];
  for (const metrics of [one, two]) {
    metrics.rpcRequests.inc({ method: 'GetMeta', result: 'ok' });
    metrics.rpcDuration.observe({ method: 'GetMeta' }, 0.002);
    metrics.rpcCertExpiry.set(500);
  }
  one.rpcCertExpiry.set(400);
  primary.rpcCertExpiry.set(500);
  two.onchainSyncLag.set(9);
  primary.workers.set(2);
  const text = await sumMetrics(
    await Promise.all([primary, one, two].map((metrics) => readMetrics(metrics, true))),
  );
  expect(metricIn(text, 'dstack_kms_rpc_requests_total{method="GetMeta",result="ok"}')).toBe(2);
  expect(metricIn(text, 'dstack_kms_rpc_duration_seconds_bucket{le="0.0025",method="GetMeta"}')).toBe(2);
  expect(metricIn(text, 'dstack_kms_rpc_duration_seconds_count{method="GetMeta"}')).toBe(2);
  expect(metricIn(text, 'dstack_kms_rpc_cert_expiry_timestamp_seconds')).toBe(400);
  expect(metricIn(text, 'dstack_kms_onchain_sync_lag_seconds')).toBe(9);
  expect(metricIn(text, 'dstack_kms_workers')).toBe(2);
  expect(metricIn(text, 'dstack_kms_build_info{version="1"}')).toBe(1);
  expect(metricIn(text, 'dstack_kms_image_verification')).toBe(1);
  expect(metricIn(text, 'dstack_kms_simulated')).toBe(0);
});

test('what a worker that ended had counted stays in the sums; what it showed does not', async () => {
  const gone = create();
  gone.rateLimited.inc(3);
  gone.rpcDuration.observe({ method: 'GetMeta' }, 1);
  gone.onchainSyncLag.set(99);
  const ended = await addEnded(
    await addEnded([], await readMetrics(gone, true)),
    await readMetrics(gone, true),
  );
  const text = await sumMetrics([await readMetrics(create(), true), ended]);
  expect(metricIn(text, 'dstack_kms_rate_limited_total')).toBe(6);
  expect(metricIn(text, 'dstack_kms_rpc_duration_seconds_sum{method="GetMeta"}')).toBe(2);
  expect(metricIn(text, 'dstack_kms_onchain_sync_lag_seconds')).toBe(0);
});

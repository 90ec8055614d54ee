import type { ChainStatus } from '@dstack-cloud/policy';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { sumMetrics } from '../workers/sum-metrics.ts';
import { exposeChainStatus } from './chain-metrics.ts';

const status = (hits: number, healthy: boolean): ChainStatus => ({
  decisions: { hits, misses: 2, revalidated: 30, dropped: 4 },
  endpoints: [
    { url: 'https://one.example', healthy: true, failures: 0, exchanges: 10, calls: 100 },
    { url: 'https://two.example', healthy, failures: healthy ? 0 : 5, exchanges: 7, calls: 70 },
  ],
});

test('shows the counts of the policy as they are, however often it is scraped', async () => {
  const registry = new Registry();
  let hits = 1;
  exposeChainStatus(registry, () => status(hits, false));
  await registry.metrics();
  hits = 9;
  const text = await registry.metrics();
  for (const line of [
    'dstack_kms_chain_decisions_total{result="cached"} 9',
    'dstack_kms_chain_decisions_total{result="read"} 2',
    'dstack_kms_chain_revalidations_total{result="revalidated"} 30',
    'dstack_kms_chain_revalidations_total{result="dropped"} 4',
    'dstack_kms_chain_endpoint_calls_total{endpoint="https://one.example",index="0"} 100',
    'dstack_kms_chain_endpoint_exchanges_total{endpoint="https://two.example",index="1"} 7',
    'dstack_kms_chain_endpoint_healthy{endpoint="https://two.example",index="1"} 0',
    'dstack_kms_chain_endpoint_failures{endpoint="https://two.example",index="1"} 5',
  ]) {
    expect(text.split('\n')).toContain(line);
  }
});

test('of several workers calls are added, and an endpoint is healthy when it is for all', async () => {
  const workers = await Promise.all(
    [true, false].map(async (healthy) => {
      const registry = new Registry();
      exposeChainStatus(registry, () => status(5, healthy));
      return await registry.getMetricsAsJSON();
    }),
  );
  const lines = (await sumMetrics(workers)).split('\n');
  expect(lines).toContain('dstack_kms_chain_decisions_total{result="cached"} 10');
  expect(lines).toContain('dstack_kms_chain_endpoint_healthy{endpoint="https://two.example",index="1"} 0');
  expect(lines).toContain('dstack_kms_chain_endpoint_failures{endpoint="https://two.example",index="1"} 5');
});

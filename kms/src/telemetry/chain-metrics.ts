import type { ChainStatus } from '@dstack-cloud/policy';
import { Counter, Gauge, type Registry } from 'prom-client';

/** Metrics of the chain policy, read from its own counts at each scrape. Endpoints are named by scheme and host. */
export function exposeChainStatus(registry: Registry, status: () => ChainStatus): void {
  const registers = [registry];
  const name = (rest: string): string => `dstack_kms_chain_${rest}`;
  const endpoints = ({ endpoints }: ChainStatus) =>
    endpoints.map(({ url, ...rest }, index) => ({ ...rest, labels: { endpoint: url, index } }));

  new Counter({
    name: name('decisions_total'),
    help: 'Requests by whether the decision at the head was cached or had to be read.',
    labelNames: ['result'],
    registers,
    collect() {
      const { hits, misses } = status().decisions;
      this.reset();
      this.inc({ result: 'cached' }, hits);
      this.inc({ result: 'read' }, misses);
    },
  });
  new Counter({
    name: name('revalidations_total'),
    help: 'Recently used decisions at a new head, by whether they still hold there.',
    labelNames: ['result'],
    registers,
    collect() {
      const { revalidated, dropped } = status().decisions;
      this.reset();
      this.inc({ result: 'revalidated' }, revalidated);
      this.inc({ result: 'dropped' }, dropped);
    },
  });
  new Counter({
    name: name('endpoint_calls_total'),
    help: 'JSON-RPC calls sent to an endpoint.',
    labelNames: ['endpoint', 'index'],
    registers,
    collect() {
      this.reset();
      for (const { labels, calls } of endpoints(status())) this.inc(labels, calls);
    },
  });
  new Counter({
    name: name('endpoint_exchanges_total'),
    help: 'HTTP requests sent to an endpoint.',
    labelNames: ['endpoint', 'index'],
    registers,
    collect() {
      this.reset();
      for (const { labels, exchanges } of endpoints(status())) this.inc(labels, exchanges);
    },
  });
  new Gauge({
    name: name('endpoint_healthy'),
    help: '0 while an endpoint rests after failures or for being slow.',
    labelNames: ['endpoint', 'index'],
    registers,
    aggregator: 'min',
    collect() {
      for (const { labels, healthy } of endpoints(status())) this.set(labels, healthy ? 1 : 0);
    },
  });
  new Gauge({
    name: name('endpoint_failures'),
    help: 'Failed exchanges with an endpoint since the last good one.',
    labelNames: ['endpoint', 'index'],
    registers,
    aggregator: 'max',
    collect() {
      for (const { labels, failures } of endpoints(status())) this.set(labels, failures);
    },
  });
}

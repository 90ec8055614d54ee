import type { BootKind, Decision } from '@dstack-cloud/policy';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Metrics of the service. */
export type Metrics = {
  readonly registry: Registry;
  /** Count a connection that was turned away or ended. */
  connectionRefused(reason: string): void;
  /** Count one answered question. */
  decided(
    kind: BootKind,
    result: 'allowed' | 'denied' | 'failed' | 'invalid' | 'turned-away',
    seconds: number,
  ): void;
};

/** @param lagSeconds age of the block of the last decision; undefined before the first and without a chain */
export function createMetrics(lagSeconds: () => number | undefined): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const requests = new Counter({
    name: 'dstack_auth_requests_total',
    help: 'Authorisation questions answered.',
    labelNames: ['kind', 'result'],
    registers,
  });
  const duration = new Histogram({
    name: 'dstack_auth_duration_seconds',
    help: 'Time from question to answer.',
    labelNames: ['kind'],
    buckets: [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  });
  new Gauge({
    name: 'dstack_onchain_sync_lag_seconds',
    help: 'Age of the last block that was read.',
    registers,
    collect() {
      const lag = lagSeconds();
      // The library starts a gauge at 0, which would be the best lag there is: what is not known is absent.
      if (lag === undefined) this.remove();
      else this.set(lag);
    },
  });
  const refused = new Counter({
    name: 'dstack_auth_connections_refused_total',
    help: 'Connections turned away, or ended before their time.',
    labelNames: ['reason'],
    registers,
  });
  return {
    registry,
    connectionRefused: (reason) => refused.inc({ reason }),
    decided(kind, result, seconds) {
      requests.inc({ kind, result });
      duration.observe({ kind }, seconds);
    },
  };
}

/** Label of a decision. */
export function resultOf(decision: Decision): 'allowed' | 'denied' | 'failed' {
  if (decision.allowed) return 'allowed';
  return decision.failure === undefined ? 'denied' : 'failed';
}

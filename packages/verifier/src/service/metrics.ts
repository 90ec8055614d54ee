import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Metrics of one service. */
export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
  request(status: number): void;
  /** Counts a connection that was turned away or cut. */
  connectionRefused(reason: string): void;
  /** Starts a verification; the answer ends it with its mode and code. */
  start(): (mode: string, code: string) => void;
}

/** @param simulatedRoots how many roots are not the vendors' */
export function createMetrics(simulatedRoots: number): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const requests = new Counter({
    name: 'dstack_verifier_requests_total',
    help: 'HTTP requests by status',
    labelNames: ['status'],
    registers,
  });
  const connections = new Counter({
    name: 'dstack_verifier_connections_refused_total',
    help: 'Connections turned away, or ended before their time, by reason',
    labelNames: ['reason'],
    registers,
  });
  const verdicts = new Counter({
    name: 'dstack_verifier_verdicts_total',
    help: 'Verdicts by mode and code; valid evidence has the code "valid"',
    labelNames: ['mode', 'code'],
    registers,
  });
  const seconds = new Histogram({
    name: 'dstack_verifier_verify_seconds',
    help: 'Time of one verification',
    buckets: [0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5, 10],
    registers,
  });
  new Gauge({
    name: 'dstack_verifier_simulated_roots',
    help: 'Configured trust roots that are not a vendor root',
    registers,
  }).set(simulatedRoots);
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    request: (status) => requests.inc({ status: String(status) }),
    connectionRefused: (reason) => connections.inc({ reason }),
    start: () => {
      const end = seconds.startTimer();
      return (mode, code) => {
        end();
        verdicts.inc({ mode, code });
      };
    },
  };
}

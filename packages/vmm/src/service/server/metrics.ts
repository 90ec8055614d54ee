import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
  call(method: string, result: 'ok' | 'error', seconds: number): void;
  loginFailed(result: string): void;
  connectionRefused(reason: string): void;
  restarted(): void;
}

/** @param count counts the machines by status, when somebody looks */
export function createMetrics(
  version: string,
  count: () => Promise<Readonly<Record<string, number>>>,
): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: L[]): Counter<L> =>
    new Counter({ name: `dstack_vmm_${name}`, help, labelNames, registers });
  const calls = counter('rpc_requests_total', 'RPC requests by method and result.', ['method', 'result']);
  const logins = counter('login_failures_total', 'Requests without a right credential.', ['result']);
  const connections = counter('connections_refused_total', 'Connections turned away or cut, by reason.', [
    'reason',
  ]);
  const restarts = counter('restarts_total', 'Machines started again after their supervisor was gone.', []);
  const seconds = new Histogram({
    name: 'dstack_vmm_rpc_duration_seconds',
    help: 'Duration of RPC requests.',
    labelNames: ['method'],
    buckets: [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60],
    registers,
  });
  new Gauge({
    name: 'dstack_vmm_machines',
    help: 'Machines by status.',
    labelNames: ['status'],
    registers,
    async collect() {
      this.reset();
      for (const [status, machines] of Object.entries(await count())) this.set({ status }, machines);
    },
  });
  new Gauge({
    name: 'dstack_vmm_build_info',
    help: 'Constant 1, with the version as label.',
    labelNames: ['version'],
    registers,
  }).set({ version }, 1);
  // An alert sees the first failure only where there was a zero before.
  for (const result of ['missing', 'wrong', 'limited']) logins.inc({ result }, 0);
  restarts.inc(0);
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    call: (method, result, duration) => {
      calls.inc({ method, result });
      seconds.observe({ method }, duration);
    },
    loginFailed: (result) => logins.inc({ result }),
    connectionRefused: (reason) => connections.inc({ reason }),
    restarted: () => restarts.inc(),
  };
}

import { Counter, Gauge, Registry } from 'prom-client';
import type { ProxyRecord } from './proxy/proxy-options.ts';

/** What is counted when somebody looks. */
export type MetricsSource = {
  readonly registered: () => number;
  readonly online: () => number;
  readonly openConnections: () => number;
  /** Unix seconds at which the certificate ends; undefined when there is none. */
  readonly certificateEnd: () => number | undefined;
};

export type Metrics = {
  readonly contentType: string;
  text(): Promise<string>;
  connection(record: ProxyRecord): void;
  turnedAway(why: string): void;
  registration(outcome: 'accepted' | 'refused'): void;
  login(result: string): void;
};

/** Nothing that a stranger chooses is a label: names of servers and addresses are not here. */
export function createMetrics(version: string, source: MetricsSource): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: L[]): Counter<L> =>
    new Counter({ name: `dstack_gateway_${name}`, help, labelNames, registers });
  const gauge = (name: string, help: string, value: () => number | undefined): Gauge =>
    new Gauge({
      name: `dstack_gateway_${name}`,
      help,
      registers,
      collect() {
        const found = value();
        // Nothing known is no zero.
        this.remove();
        if (found !== undefined) this.set(found);
      },
    });
  const connections = counter('connections_total', 'Connections of users that ended, by mode and outcome.', [
    'mode',
    'outcome',
  ]);
  const bytes = counter('relayed_bytes_total', 'Bytes relayed, to applications and from them.', [
    'direction',
  ]);
  const turnedAway = counter('connections_turned_away_total', 'Connections refused or cut by a limit.', [
    'reason',
  ]);
  const registrations = counter('registrations_total', 'Registrations of guests, by outcome.', ['outcome']);
  const logins = counter('login_failures_total', 'Requests of operators without a right credential.', [
    'result',
  ]);
  gauge('instances', 'Registered instances.', source.registered);
  gauge('instances_online', 'Instances with a handshake within five minutes.', source.online);
  gauge('open_connections', 'Connections to instances that are open.', source.openConnections);
  gauge('certificate_end_seconds', 'When the certificate ends, Unix time.', source.certificateEnd);
  new Gauge({
    name: 'dstack_gateway_build_info',
    help: 'Constant 1, with the version as label.',
    labelNames: ['version'],
    registers,
  }).set({ version }, 1);
  // An alert sees the first failure only where there was a zero before.
  for (const outcome of ['accepted', 'refused']) registrations.inc({ outcome }, 0);
  for (const result of ['missing', 'wrong', 'limited']) logins.inc({ result }, 0);
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    connection: ({ mode = 'none', outcome, sent = 0, received = 0 }) => {
      connections.inc({ mode, outcome });
      bytes.inc({ direction: 'to-application' }, sent);
      bytes.inc({ direction: 'to-user' }, received);
    },
    turnedAway: (reason) => turnedAway.inc({ reason }),
    registration: (outcome) => registrations.inc({ outcome }),
    login: (result) => logins.inc({ result }),
  };
}

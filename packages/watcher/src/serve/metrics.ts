import { Gauge, Registry } from 'prom-client';
import { participation } from '../alerts/timed-alerts.ts';
import { announcedCalls } from '../model/announced-calls.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { WaitingTransaction } from '../safe-service/waiting-transaction.ts';
import type { WatchState } from '../state/watch-state.ts';

/** What metrics are made of, at the moment when they are asked for. */
export type MetricsSource = {
  readonly model: () => GovernanceModel;
  readonly state: () => WatchState;
  /** Unix seconds. */
  readonly now: () => number;
  readonly participationSeconds: number;
  /** Transactions that wait in Safes, as the transaction service has them. */
  readonly waiting: () => readonly WaitingTransaction[];
  readonly kms: string;
  readonly isListed: (address: string) => boolean;
  /** Of the last pass. */
  readonly status: () => {
    readonly readable: boolean;
    readonly headTime: number | undefined;
    readonly block: number | undefined;
    readonly webhookFailures: number;
    /** Undefined when none is asked. */
    readonly safeServiceReadable: boolean | undefined;
    readonly endpoints: readonly { readonly url: string; readonly healthy: boolean }[];
  };
};

/** Prometheus metrics. Labels are names of ours: no text of the chain makes a series. */
export function createMetrics(source: MetricsSource): Registry {
  const registry = new Registry();
  const registers = [registry];
  const gauge = (
    name: string,
    help: string,
    read: (set: (value: number, labels?: Record<string, string>) => void) => void,
    labelNames: readonly string[] = [],
  ): void => {
    new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      collect() {
        this.reset();
        // The library starts a gauge without labels at 0, and 0 is the alarm of some of these: what is not known is absent.
        if (labelNames.length === 0) this.remove();
        read((value, labels = {}) => this.set(labels, value));
      },
    });
  };
  const operations = () =>
    [...source.model().timelocks.values()].flatMap(({ operations: all }) =>
      [...all.values()].filter(({ state }) => state === 'pending'),
    );
  /** Of the Safes: one that is approved on the chain and waits at the service counts once. */
  const transactions = (): number[] => {
    const since = new Map(source.waiting().map(({ hash, since: time }) => [hash, time]));
    for (const { approvals: all } of source.model().safes.values())
      for (const [hash, { time }] of all) since.set(hash, Math.min(time, since.get(hash) ?? time));
    return [...since.values()];
  };
  const announced = () => announcedCalls(source.model(), source.kms, source.now(), source.isListed);
  const age = (since: number): number => Math.max(0, source.now() - since);

  gauge(
    'dstack_governance_pending_proposals',
    'Operations that are scheduled, calls that are announced, and transactions of Safes that are proposed or approved, and not executed.',
    (set) => set(operations().length + announced().length + transactions().length),
  );
  gauge('dstack_governance_oldest_pending_seconds', 'Age of the oldest of them.', (set) => {
    const since = [
      ...operations().map(({ scheduled }) => scheduled.time),
      ...announced().map(({ time }) => time),
      ...transactions(),
    ];
    set(since.length === 0 ? 0 : age(Math.min(...since)));
  });
  gauge(
    'dstack_governance_timelock_queue_depth',
    'Operations that are scheduled, and neither executed nor cancelled.',
    (set) => set(operations().length),
  );
  gauge('dstack_governance_timelock_ready_unexecuted', 'Of these, those whose delay has passed.', (set) =>
    set(operations().filter(({ readyAt }) => readyAt <= source.now()).length),
  );
  gauge(
    'dstack_governance_oldest_ready_seconds',
    'For how long the oldest of these has been ready.',
    (set) => {
      const ready = operations().filter(({ readyAt }) => readyAt <= source.now());
      set(ready.length === 0 ? 0 : age(Math.min(...ready.map(({ readyAt }) => readyAt))));
    },
  );
  gauge(
    'dstack_governance_signer_participation_ratio',
    'Signers who signed, approved or executed something lately.',
    (set) => {
      for (const safe of source.model().safes.keys()) {
        const ratio = participation(source.model(), safe, source.now(), source.participationSeconds);
        if (ratio !== undefined) set(ratio, { safe });
      }
    },
    ['safe'],
  );
  gauge(
    'dstack_governance_signer_last_seen_seconds',
    'Since when a signer has done nothing; absent when it never did.',
    (set) => {
      for (const [safe, { owners, lastSeen }] of source.model().safes)
        for (const signer of owners) {
          const time = lastSeen.get(signer);
          if (time !== undefined) set(age(time), { safe, signer });
        }
    },
    ['safe', 'signer'],
  );
  gauge(
    'dstack_governance_safe_waiting_transactions',
    'Transactions that signers proposed and nobody executed, as the transaction service has them.',
    (set) => {
      for (const safe of source.model().safes.keys())
        set(source.waiting().filter((one) => one.safe === safe).length, { safe });
    },
    ['safe'],
  );
  gauge(
    'dstack_governance_safe_service_readable',
    'Whether the Safe transaction service answers as it should; absent without one.',
    (set) => {
      const { safeServiceReadable } = source.status();
      if (safeServiceReadable !== undefined) set(safeServiceReadable ? 1 : 0);
    },
  );
  gauge(
    'dstack_governance_announced_calls',
    'Calls that are announced to a contract, and neither made nor taken back.',
    (set) => set(announced().length),
  );
  gauge('dstack_governance_paused', 'Whether the KMS is paused.', (set) =>
    set(source.model().kms.paused ? 1 : 0),
  );
  gauge(
    'dstack_governance_suspicious_total',
    'Critical alerts, by rule.',
    (set) => {
      for (const [key, count] of counts('critical')) set(count, { rule: key });
    },
    ['rule'],
  );
  gauge(
    'dstack_governance_alerts_total',
    'Alerts, by severity.',
    (set) => {
      for (const severity of ['info', 'warning', 'critical'])
        set(
          counts(severity).reduce((sum, [, count]) => sum + count, 0),
          { severity },
        );
    },
    ['severity'],
  );
  gauge(
    'dstack_governance_events_total',
    'Events of the followed contracts.',
    (set) => {
      for (const [key, count] of Object.entries(source.state().counts)) {
        const [kind, contract = '', event = ''] = key.split('/');
        if (kind === 'event') set(count, { contract, event });
      }
    },
    ['contract', 'event'],
  );
  const counts = (severity: string): [string, number][] =>
    Object.entries(source.state().counts).flatMap(([key, count]): [string, number][] => {
      const [kind, of, rule = ''] = key.split('/');
      return kind === 'alert' && of === severity ? [[rule, count]] : [];
    });
  gauge('dstack_governance_alerts_waiting', 'Messages that have not arrived yet.', (set) =>
    set(source.state().outbox.length),
  );
  gauge(
    'dstack_governance_alerts_dropped_total',
    'Messages that were given up because too many waited.',
    (set) => set(source.state().dropped),
  );
  gauge('dstack_governance_webhook_failures_total', 'Posts that failed since the start.', (set) =>
    set(source.status().webhookFailures),
  );
  gauge('dstack_governance_apps_muted', 'Apps that are not followed because of what they write.', (set) =>
    set(Object.values(source.state().sources).filter(({ muted }) => muted !== undefined).length),
  );
  gauge(
    'dstack_governance_events_left_out_total',
    'Registrations and events of apps that are not listed, beyond what is kept of these.',
    (set) => set(source.state().counts['left-out'] ?? 0),
  );
  gauge('dstack_governance_journal_bytes', 'Size of the journal, which may have 128 MiB.', (set) =>
    set(source.state().journal.bytes),
  );
  gauge('dstack_governance_chain_readable', 'Whether the last pass reached the head.', (set) =>
    set(source.status().readable ? 1 : 0),
  );
  gauge('dstack_governance_block', 'The last block whose events are known.', (set) => {
    const { block } = source.status();
    if (block !== undefined) set(block);
  });
  gauge('dstack_onchain_sync_lag_seconds', 'Age of the last block that was read.', (set) => {
    const { headTime } = source.status();
    if (headTime !== undefined) set(age(headTime));
  });
  gauge(
    'dstack_governance_endpoint_healthy',
    'Whether an RPC endpoint answers.',
    (set) => {
      for (const { url, healthy } of source.status().endpoints) set(healthy ? 1 : 0, { url });
    },
    ['url'],
  );
  return registry;
}

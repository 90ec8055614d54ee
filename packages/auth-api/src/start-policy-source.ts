import {
  allowListPolicy,
  type ChainEvent,
  type ChainPolicy,
  chainPolicy,
  type Policy,
} from '@dstack-cloud/policy';
import type { Logger } from 'pino';
import type { Settings } from './settings.ts';
import { settingsWarnings } from './settings-warnings.ts';

/** How often the head is looked at without being asked, so that the lag metric is true at quiet times. */
const WATCH_INTERVAL_MS = 10_000;

/** A policy with what metrics and shutdown need. */
export type PolicySource = {
  readonly policy: Policy;
  readonly lagSeconds: () => number | undefined;
  close(): void;
};

/** Starts the configured source: a chain is watched until it is closed. */
export function startPolicySource(settings: Settings, log: Logger): PolicySource {
  const { source } = settings;
  if (source.type === 'allow-list') {
    const policy = allowListPolicy(source.path, {
      onWarning: (detail) => log.warn({ detail }, 'Allow-list cannot be used'),
    });
    return { policy, lagSeconds: () => undefined, close: () => policy.close?.() };
  }
  const { type: _, ...options } = source;
  const policy: ChainPolicy = chainPolicy({ ...options, onEvent: (event) => logChainEvent(log, event) });
  for (const warning of settingsWarnings(settings)) log.warn({ warning }, 'Settings warning');
  const watch = setInterval(() => {
    // A failure is already in the log as an event.
    policy.describe().catch(() => {});
  }, WATCH_INTERVAL_MS);
  watch.unref();
  return {
    policy,
    lagSeconds: () => policy.status().lagSeconds,
    close: () => {
      clearInterval(watch);
      policy.close?.();
    },
  };
}

function logChainEvent(log: Logger, event: ChainEvent): void {
  if (event.type === 'block') {
    const { number, lagSeconds } = event;
    log.info({ block: number.toString(), lagSeconds }, 'on-chain sync completed');
  } else if (event.type === 'undecided') {
    const { failure, message, times } = event;
    log.error({ failure, detail: message, times }, 'chain could not be read: refused, not denied');
  } else if (event.type === 'endpoint-lacks') {
    log.info({ endpoint: event.endpoint, what: event.what }, 'RPC endpoint lacks a feature; falling back');
  } else {
    const { endpoint, message, times } = event;
    log.warn({ endpoint, detail: message, times }, 'RPC endpoint failed');
  }
}

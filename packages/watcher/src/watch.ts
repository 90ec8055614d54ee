import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '@dstack-cloud/app';
import { makeOwnDirectory, withLock } from '@dstack-cloud/files';
import { type ChainEvent, PolicyError } from '@dstack-cloud/policy';
import type { Block } from '@dstack-cloud/policy/following';
import type { Hex } from 'viem';
import type { Alert } from './alerts/alert.ts';
import { enqueue, type Outlets } from './alerts/enqueue.ts';
import { journalAlerts } from './alerts/journal-alerts.ts';
import { serviceProblemAlerts, signedId, waitingAlerts } from './alerts/service-alerts.ts';
import { timedAlerts } from './alerts/timed-alerts.ts';
import { ChainReader } from './chain/chain-reader.ts';
import { readSecret } from './config/read-secret.ts';
import type { WatchConfig } from './config/schema.ts';
import { WatcherError } from './errors.ts';
import type { SourceKind } from './events/governance-event.ts';
import { Follower } from './follow/follower.ts';
import { knownContracts } from './follow/found-apps.ts';
import { Simulations } from './follow/simulations.ts';
import { openService } from './open-service.ts';
import { type Listener, listen } from './serve/listen.ts';
import { createMetrics } from './serve/metrics.ts';
import { Delivery, type Message } from './sinks/deliver.ts';
import { Webhook } from './sinks/webhook.ts';
import { MAX_JOURNAL_BYTES, StateStore } from './state/state-store.ts';

/** What the watcher says of itself. */
export type WatcherNote =
  | { readonly type: 'started'; readonly metrics: string | undefined }
  | { readonly type: 'pass'; readonly block: number; readonly events: number }
  | { readonly type: 'pass-failed'; readonly code: string; readonly message: string }
  | { readonly type: 'webhook-failed'; readonly message: string }
  | { readonly type: 'safe-service-failed'; readonly code: string; readonly message: string }
  /** Something that is pending could not be tried; what else happens is told all the same. */
  | { readonly type: 'simulation-failed'; readonly code: string; readonly message: string }
  | { readonly type: 'chain'; readonly event: ChainEvent };

/** How the watcher runs. */
export type WatchOptions = {
  readonly config: WatchConfig;
  /** Gets each message; one that a kill interrupted comes again, with the same id. */
  readonly onMessage: (message: Message) => void;
  readonly onNote?: ((note: WatcherNote) => void) | undefined;
  readonly signal: AbortSignal;
  /** One pass, then each message once. */
  readonly once?: boolean | undefined;
  /** Unix seconds. */
  readonly now?: (() => number) | undefined;
};

/** What one pass, or the last one, found. */
export type WatchResult = {
  readonly block: number | undefined;
  readonly head: number | undefined;
  readonly events: number;
  /** Messages that wait for the webhook still. */
  readonly waiting: number;
};

/** For how long a webhook may take at the end. */
const LAST_DELIVERY_MS = 5_000;

/**
 * Follows the contracts of a KMS domain until the signal fires, or once.
 * @throws WatcherError, FilesError `locked` when another watcher has the state; with `once` also what a pass throws
 */
export async function watchGovernance(options: WatchOptions): Promise<WatchResult> {
  const { config } = options;
  makeOwnDirectory(config.state_path);
  const what = `The state of the watcher in ${config.state_path}`;
  return await withLock(config.state_path, 'watch', { waitMs: 0, what }, () => watchLocked(options));
}

async function watchLocked({
  config,
  onMessage,
  onNote = () => {},
  signal,
  once = false,
  now = () => Date.now() / 1_000,
}: WatchOptions): Promise<WatchResult> {
  const { webhook: hook, alerts: thresholds } = config;
  const kms = config.kms_contract.toLowerCase() as Hex;
  const store = await StateStore.open(config.state_path, { kms, fromBlock: config.from_block });
  const webhook =
    hook.url === ''
      ? undefined
      : new Webhook(
          hook.url,
          readSecret('webhook.secret_file', hook.secret_file),
          hook.timeout_seconds * 1_000,
        );
  const outlets: Outlets = {
    log: true,
    webhook: webhook && { minSeverity: hook.min_severity },
    maxWaiting: hook.max_waiting,
  };
  const reader = openReader(config, (event) => onNote({ type: 'chain', event }), now);
  const inUse = new Set(config.in_use.map((hash) => `0x${hash.replace(/^0x/, '').toLowerCase()}`));
  const follower = new Follower({
    reader,
    store,
    listed: listedSources(config),
    fromBlock: config.from_block,
    range: config.blocks_per_query,
    maxApps: config.max_apps,
    inUse,
    multiSend: config.multi_send,
    enqueue: (state, alerts) => enqueue(state, alerts, outlets),
  });
  const safes = openService(config.safe_service, reader, {
    now,
    noted: (safe, hash, signer) => store.state.told[signedId(safe, hash, signer)],
  });
  let webhookFailures = 0;
  const delivery = new Delivery({
    store,
    webhook,
    write: onMessage,
    now,
    onFailure: (message) => {
      webhookFailures += 1;
      onNote({ type: 'webhook-failed', message });
    },
  });
  const tell = async (alerts: readonly Alert[]): Promise<void> => {
    if (alerts.some(({ id }) => !Object.hasOwn(store.state.told, id)))
      await store.update((state) => enqueue(state, alerts, outlets));
  };
  let head: Block | undefined;
  let readable = false;
  let unreadableSince: number | undefined;
  const isListed = (address: string): boolean => store.state.sources[address]?.listed ?? false;

  const askSafes = async (): Promise<void> => {
    const { chainId } = store.state;
    if (safes === undefined || chainId === null) return;
    const before = safes.problem;
    await safes.poll(chainId, follower.model, signal);
    safes.mark(follower.model);
    if (safes.problem !== undefined && safes.problem !== before)
      onNote({ type: 'safe-service-failed', code: safes.problem.code, message: safes.problem.message });
  };
  const simulations = new Simulations();
  const simulate = async (): Promise<readonly Alert[]> => {
    const known = knownContracts(store.state.sources, config.multi_send);
    const waiting = safes?.waiting ?? [];
    const { alerts, error } = await simulations.try(reader, follower.model, waiting, known, now());
    if (error !== undefined) onNote({ type: 'simulation-failed', ...described(error) });
    return alerts;
  };
  const pass = async (): Promise<void> => {
    const before = store.state.journal.entries;
    const progress = await follower.pass(signal);
    head = progress.head;
    readable = true;
    unreadableSince = undefined;
    const events = store.state.journal.entries - before;
    if (events > 0) onNote({ type: 'pass', block: progress.block, events });
    await askSafes();
    await tell([
      ...(await simulate()),
      ...waitingAlerts(safes?.waiting ?? [], follower.model, now(), thresholds.pending_hours * 3_600, {
        known: knownContracts(store.state.sources, config.multi_send),
        isListed,
        inUse,
      }),
      ...serviceProblemAlerts(safes?.problem, now(), thresholds.stale_seconds),
      ...timedAlerts(
        follower.model,
        now(),
        {
          pendingSeconds: thresholds.pending_hours * 3_600,
          queueDepth: thresholds.queue_depth,
          expirySeconds: thresholds.expiry_days * 86_400,
          participation: thresholds.participation,
          participationSeconds: thresholds.participation_days * 86_400,
        },
        isListed,
      ),
      ...staleAlerts(head, now(), thresholds.stale_seconds),
      ...journalAlerts(store.state.journal.bytes, MAX_JOURNAL_BYTES, now()),
    ]);
  };
  /** Goes on after whatever may pass; what will not is thrown. */
  const failed = async (error: unknown): Promise<void> => {
    if (signal.aborted) return;
    const { code, message } = described(error);
    readable = false;
    // Who gets the error needs no note.
    if (isFinal(error)) throw error;
    if (once)
      throw new WatcherError(
        'chain-unreadable',
        `The chain cannot be read: ${message.replace(/^authorization backend: /, '')}`,
        { hint: 'Check rpc_urls: more than half of them, or quorum, have to answer alike' },
      );
    onNote({ type: 'pass-failed', code, message });
    unreadableSince ??= now();
    if (now() - unreadableSince < thresholds.stale_seconds) return;
    await tell([unreadable(unreadableSince, code, message)]).catch(() => undefined);
  };

  let listener: Listener | undefined;
  try {
    if (config.metrics.enabled && !once) {
      const registry = createMetrics({
        model: () => follower.model,
        state: () => store.state,
        now,
        participationSeconds: thresholds.participation_days * 86_400,
        waiting: () => safes?.waiting ?? [],
        kms,
        isListed,
        status: () => ({
          readable,
          safeServiceReadable: safes && safes.problem === undefined,
          headTime: head?.timestamp,
          block: store.state.checkpoints.at(-1)?.number,
          webhookFailures,
          endpoints: reader.endpoints,
        }),
      });
      listener = await listen({
        address: config.metrics.address,
        port: config.metrics.port,
        routes: [
          { path: '/health', handle: () => ({ body: 'OK' }) },
          {
            path: '/metrics',
            handle: async () => ({ type: registry.contentType, body: await registry.metrics() }),
          },
        ],
      });
    }
    onNote({ type: 'started', metrics: listener?.url });
    const first = store.state.journal.entries;
    do {
      await pass().catch(failed);
      const delivering = delivery.run().catch((error: unknown) => {
        onNote({ type: 'webhook-failed', message: described(error).message });
      });
      if (once) await delivering;
      else await pause(config.poll_seconds, signal);
    } while (!once && !signal.aborted);
    await Promise.race([
      delivery.run().catch(() => undefined),
      sleep(once ? 0 : LAST_DELIVERY_MS, undefined, { ref: false }),
    ]);
    return {
      block: store.state.checkpoints.at(-1)?.number,
      head: head && Number(head.number),
      events: store.state.journal.entries - first,
      waiting: store.state.outbox.length,
    };
  } finally {
    await listener?.stop();
    webhook?.close();
    reader.close();
  }
}

/** Reads the chain as the configuration says. */
export function openReader(
  config: Pick<
    WatchConfig,
    'rpc_urls' | 'kms_contract' | 'chain_id' | 'quorum' | 'finality' | 'rpc_timeout_seconds'
  >,
  onEvent: (event: ChainEvent) => void,
  now?: () => number,
): ChainReader {
  return new ChainReader({
    rpcUrls: config.rpc_urls,
    kmsContract: config.kms_contract as Hex,
    chainId: config.chain_id,
    quorum: config.quorum,
    finality: config.finality,
    timeoutMs: config.rpc_timeout_seconds * 1_000,
    onEvent,
    now,
  });
}

/** The contracts of the configuration, by lower-case address. */
export function listedSources(
  config: Pick<WatchConfig, 'kms_contract' | 'apps' | 'timelocks' | 'safes'>,
): Record<string, SourceKind> {
  const kinds = (addresses: readonly string[], kind: SourceKind): [string, SourceKind][] =>
    addresses.map((address) => [address.toLowerCase(), kind]);
  return Object.fromEntries([
    ...kinds(config.apps, 'app'),
    ...kinds(config.safes, 'safe'),
    ...kinds(config.timelocks, 'timelock'),
    ...kinds([config.kms_contract], 'kms'),
  ]);
}

/** A head that is old: the chain, or all endpoints, stand still. */
function staleAlerts(head: Block, now: number, staleSeconds: number): Alert[] {
  const lag = Math.floor(now - head.timestamp);
  if (lag < staleSeconds) return [];
  return [
    {
      id: `${head.hash}/chain-stale`,
      rule: 'chain-stale',
      severity: 'critical',
      text: `The newest block that the endpoints know is ${lag} seconds old: a revocation may be hidden`,
      time: Math.floor(now),
      block: Number(head.number),
    },
  ];
}

function unreadable(since: number, code: string, message: string): Alert {
  return {
    id: `${Math.floor(since)}/chain-unreadable`,
    rule: 'chain-unreadable',
    severity: 'critical',
    text: `The chain cannot be followed since ${new Date(since * 1_000).toISOString()}: ${code}: ${message}`.slice(
      0,
      2_000,
    ),
    time: Math.floor(since),
  };
}

/** Code and text of whatever was thrown. */
export function described(error: unknown): { readonly code: string; readonly message: string } {
  if (error instanceof PolicyError || error instanceof WatcherError || error instanceof AppError)
    return { code: error.code, message: error.message };
  return { code: 'failed', message: error instanceof Error ? error.message : String(error) };
}

/** What no further pass can change. */
function isFinal(error: unknown): boolean {
  if (error instanceof WatcherError)
    return error.code === 'state-damaged' || error.code === 'bad-configuration';
  return !(error instanceof PolicyError || error instanceof AppError);
}

async function pause(seconds: number, signal: AbortSignal): Promise<void> {
  await sleep(seconds * 1_000, undefined, { signal }).catch(() => undefined);
}

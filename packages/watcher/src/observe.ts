import { setTimeout as sleep } from 'node:timers/promises';
import type { KnownContracts } from '@dstack-cloud/governance';
import type { Hex } from 'viem';
import type { Alert } from './alerts/alert.ts';
import { enqueue } from './alerts/enqueue.ts';
import type { WatchConfig } from './config/schema.ts';
import { Follower } from './follow/follower.ts';
import { knownContracts } from './follow/found-apps.ts';
import { type AnnouncedCall, announcedCalls } from './model/announced-calls.ts';
import { ChangeLog } from './model/change-log.ts';
import type { GovernanceModel } from './model/governance-model.ts';
import { openService } from './open-service.ts';
import type { WaitingTransaction } from './safe-service/waiting-transaction.ts';
import { StateStore } from './state/state-store.ts';
import { described, listedSources, openReader } from './watch.ts';

/** What is observed. */
export type ObserveOptions = Pick<
  WatchConfig,
  | 'rpc_urls'
  | 'quorum'
  | 'chain_id'
  | 'rpc_timeout_seconds'
  | 'kms_contract'
  | 'apps'
  | 'timelocks'
  | 'safes'
  | 'from_block'
  | 'finality'
  | 'poll_seconds'
  | 'blocks_per_query'
  | 'max_apps'
  | 'multi_send'
  | 'safe_service'
>;

/** How far the reading is. */
export type ObserverStatus = {
  readonly chainId: number | null;
  readonly block: number | null;
  /** Unix seconds of the newest block. */
  readonly headTime: number | null;
  /** Undefined while all is well; else what is wrong, without addresses of endpoints. */
  readonly problem: string | undefined;
};

/** The governance of a KMS domain as it is now, in memory. */
export type Observer = {
  readonly kms: string;
  readonly model: GovernanceModel;
  readonly status: ObserverStatus;
  readonly known: KnownContracts;
  readonly changes: readonly Alert[];
  /** What waits at the Safe transaction service, as it says; which signatures are real was checked here. */
  readonly waiting: readonly WaitingTransaction[];
  /** Undefined without such a service. */
  readonly service: { readonly host: string; readonly problem: string | undefined } | undefined;
  /** Calls that the owners of the KMS contract and of listed apps may make after their delay. */
  readonly announced: readonly AnnouncedCall[];
  readonly mutedApps: ReadonlySet<string>;
  /** Apps that are followed, and whose flags are read. */
  readonly knownApps: ReadonlySet<string>;
  /** Unix seconds. */
  readonly now: number;
  stop(): Promise<void>;
};

/** Follows the chain until it is stopped, and tells nobody. @throws PolicyError `bad-configuration` */
export function observe(options: ObserveOptions): Observer {
  const kms = options.kms_contract.toLowerCase() as Hex;
  const store = StateStore.inMemory({ kms, fromBlock: options.from_block });
  const reader = openReader(options, () => {});
  const nobody = { log: false, webhook: undefined, maxWaiting: 1 };
  const follower = new Follower({
    reader,
    store,
    listed: listedSources(options),
    fromBlock: options.from_block,
    range: options.blocks_per_query,
    maxApps: options.max_apps,
    inUse: new Set(),
    multiSend: options.multi_send,
    enqueue: (state, alerts) => enqueue(state, alerts, nobody),
  });
  const now = (): number => Date.now() / 1_000;
  const safes = openService(options.safe_service, reader, { now, noted: () => undefined });
  let asking: Promise<void> | undefined;
  /** Beside the chain, which is read on meanwhile. */
  const askService = (): void => {
    const { chainId } = store.state;
    if (safes === undefined || chainId === null) return;
    asking ??= safes.poll(chainId, follower.model, stop.signal).finally(() => {
      asking = undefined;
    });
  };
  const log = new ChangeLog();
  const stop = new AbortController();
  let headTime: number | null = null;
  let problem: string | undefined = 'The chain is being read';
  const running = (async () => {
    while (!stop.signal.aborted) {
      try {
        const { head } = await follower.pass(stop.signal);
        headTime = head.timestamp;
        problem = undefined;
        askService();
      } catch (error) {
        const { code, message } = described(error);
        problem = `${code}: ${message}`;
      }
      await sleep(options.poll_seconds * 1_000, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  })();
  return {
    kms,
    get model() {
      return follower.model;
    },
    get status() {
      const { chainId, checkpoints } = store.state;
      return { chainId, block: checkpoints.at(-1)?.number ?? null, headTime, problem };
    },
    get known() {
      return knownContracts(store.state.sources, options.multi_send);
    },
    get changes() {
      const { sources } = store.state;
      const isListed = (address: string): boolean => sources[address]?.listed ?? false;
      return log.of(follower.model, knownContracts(sources, options.multi_send), isListed);
    },
    get waiting() {
      return safes?.waiting ?? [];
    },
    get service() {
      if (safes === undefined) return undefined;
      return { host: new URL(options.safe_service.url).host, problem: safes.problem?.message };
    },
    get announced() {
      const isListed = (address: string): boolean => store.state.sources[address]?.listed ?? false;
      return announcedCalls(follower.model, kms, Date.now() / 1_000, isListed);
    },
    get mutedApps() {
      const muted = Object.entries(store.state.sources).filter((entry) => entry[1].muted !== undefined);
      return new Set(muted.map(([address]) => address));
    },
    get knownApps() {
      const known = Object.entries(store.state.sources).filter(
        ([, { flags, muted }]) => flags !== undefined && muted === undefined,
      );
      return new Set(known.map(([address]) => address));
    },
    get now() {
      return Math.floor(Date.now() / 1_000);
    },
    async stop() {
      stop.abort();
      await running;
      await asking;
      reader.close();
    },
  };
}

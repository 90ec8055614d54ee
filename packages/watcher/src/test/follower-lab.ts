import type { Hex } from 'viem';
import { enqueue } from '../alerts/enqueue.ts';
import { ChainReader } from '../chain/chain-reader.ts';
import type { SourceKind } from '../events/governance-event.ts';
import { Follower } from '../follow/follower.ts';
import { StateStore } from '../state/state-store.ts';
import { KMS } from './fake-node.ts';

type Lab = {
  readonly follower: Follower;
  readonly store: StateStore;
  close(): void;
};

type LabOptions = {
  readonly urls: readonly string[];
  readonly kms?: Hex;
  readonly store?: StateStore;
  readonly listed?: Readonly<Record<string, SourceKind>>;
  readonly timeoutMs?: number;
  readonly range?: number;
  readonly maxApps?: number;
  readonly strangersBytes?: number;
};

/** A follower as the watcher has it, of which every alert waits in the store. */
export function followerLab({
  urls,
  kms = KMS,
  store = StateStore.inMemory({ kms, fromBlock: 0 }),
  listed = { [kms]: 'kms' },
  timeoutMs = 2_000,
  range = 10_000,
  maxApps = 100,
  strangersBytes,
}: LabOptions): Lab {
  const reader = new ChainReader({ rpcUrls: urls, kmsContract: kms, chainId: 31_337, timeoutMs });
  const outlets = { log: true, webhook: undefined, maxWaiting: 10_000 };
  const follower = new Follower({
    ...{
      reader,
      store,
      listed,
      range,
      maxApps,
      strangersBytes,
      fromBlock: 0,
      inUse: new Set(),
      multiSend: [],
    },
    enqueue: (state, alerts) => enqueue(state, alerts, outlets),
  });
  return { follower, store, close: () => reader.close() };
}

/** The rules of what waits to be told, with their texts. */
export function told(store: StateStore): string[] {
  return store.state.outbox.map(({ alert }) => `${alert.rule}: ${alert.text}`);
}

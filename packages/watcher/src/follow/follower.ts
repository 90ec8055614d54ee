import { PolicyError } from '@dstack-cloud/policy';
import type { Block, ChainSnapshot } from '@dstack-cloud/policy/following';
import type { Hex } from 'viem';
import type { Alert } from '../alerts/alert.ts';
import type { AlertContext } from '../alerts/occurrence.ts';
import type { ChainReader } from '../chain/chain-reader.ts';
import { type LogRange, TooMuch, type Wanted } from '../chain/read-logs.ts';
import { WatcherError } from '../errors.ts';
import { decodeEvents } from '../events/decode-event.ts';
import type { GovernanceEvent, SourceKind } from '../events/governance-event.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { StateStore } from '../state/state-store.ts';
import type { JournalEntry } from '../state/watch-state.ts';
import { giveUpOrphans, rollBack, sortOut } from './abandoned-events.ts';
import { rewound } from './changes-left-out.ts';
import { checkEpochs } from './check-epochs.ts';
import { withCheckpoint } from './checkpoints.ts';
import { findFork } from './find-fork.ts';
import { findGovernors } from './find-governors.ts';
import { advanced, FollowedSources } from './followed-sources.ts';
import { forgetMadeCalls } from './forget-made-calls.ts';
import { discoveredApps, knownContracts } from './found-apps.ts';
import { governedTopics } from './governed-topics.ts';
import { type Enqueue, ModelKeeper } from './model-keeper.ts';
import { newsFilter } from './news-filter.ts';
import { NEAR, planRange } from './plan-range.ts';
import { readAppFlags } from './read-app-flags.ts';
import { appMuted, StrangersShare } from './strangers-share.ts';
import { tellPending } from './tell-pending.ts';

/** What is followed, and how. */
export type FollowerOptions = {
  readonly reader: ChainReader;
  readonly store: StateStore;
  /** By lower-case address. */
  readonly listed: Readonly<Record<string, SourceKind>>;
  readonly fromBlock: number;
  /** Blocks in one question, far behind the head. */
  readonly range: number;
  readonly maxApps: number;
  /** Measurements that running services have. */
  readonly inUse: ReadonlySet<string>;
  /** Contracts through which Safes make several calls at once. */
  readonly multiSend: readonly string[];
  readonly enqueue: Enqueue;
  /** Bytes of the journal for apps that are not listed; a quarter of it when absent. */
  readonly strangersBytes?: number | undefined;
};

/** How far a pass came. */
export type Progress = {
  readonly head: Block;
  /** The last block whose events are known. */
  readonly block: number;
  readonly alerts: readonly Alert[];
};

/** Brings the store to the chain as it is: what a reorganisation removed is taken out, and what is new read. */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #keeper: ModelKeeper;
  readonly #sources: FollowedSources;
  readonly #strangers: StrangersShare;
  /** Whom this was asked about before. */
  readonly #asked = new Set<string>();
  #range: number;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#keeper = new ModelKeeper(options.store, options.enqueue);
    this.#sources = new FollowedSources(options.store, options.listed);
    this.#strangers = new StrangersShare(
      () => options.store.entries,
      (address) => this.#sources.isListed(address),
      options.strangersBytes,
    );
    this.#range = options.range;
  }

  /** The governance state that the events of the store add up to. */
  get model(): GovernanceModel {
    return this.#keeper.model;
  }

  /**
   * One pass up to the block that counts. What was read is kept step by step, so a failure costs one step.
   * @throws PolicyError when the endpoints do not agree, WatcherError `chain-replaced`, `events-missing`
   */
  async pass(signal?: AbortSignal): Promise<Progress> {
    const { reader } = this.#options;
    const view = await reader.view();
    const target = Number(view.finalized.number);
    const alerts: Alert[] = [...(await this.#settle(view, target))];
    do {
      for (;;) {
        signal?.throwIfAborted();
        const next = planRange(this.#sources.all, target, this.#range);
        if (next === undefined) break;
        alerts.push(...(await this.#step(view, target, next)));
      }
    } while (await this.#findGovernors(view, target));
    alerts.push(...(await giveUpOrphans(this.#keeper, target, (address) => this.#sources.isListed(address))));
    const { kms } = this.#options.store.state;
    await readAppFlags(reader, view, this.#keeper);
    await forgetMadeCalls(reader, view, this.model, kms as Hex, (address) => this.#sources.isListed(address));
    alerts.push(...(await tellPending(this.#keeper, this.#context, view.finalized.timestamp)));
    return { head: view.head, block: this.#options.store.state.checkpoints.at(-1)?.number ?? 0, alerts };
  }

  /** The first time begins; later, blocks that are gone are taken back. */
  async #settle(view: ChainSnapshot, target: number): Promise<readonly Alert[]> {
    const { reader, store } = this.#options;
    const { state } = store;
    if (state.chainId !== null && state.chainId !== view.chainId)
      throw new WatcherError('chain-replaced', 'The endpoints are on another chain than before', {
        expected: String(state.chainId),
        found: String(view.chainId),
      });
    if (state.checkpoints.length === 0) await this.#begin(view, target);
    this.#sources.addListed(target);
    const fork = await findFork(store.state.checkpoints, target, async (numbers) =>
      (await reader.blocks(view, numbers)).map(({ hash }) => hash),
    );
    if (fork.kind === 'replaced')
      throw new WatcherError('chain-replaced', 'No block that was read before is on the chain any more', {
        expected: `block ${store.state.checkpoints[0]!.number} with hash ${store.state.checkpoints[0]!.hash}`,
        found: 'another hash',
        hint: 'Check rpc_urls; for a chain that really began again, name a new folder in state_path',
      });
    return fork.kind === 'fork' ? await rollBack(this.#keeper, fork.last.number) : [];
  }

  async #begin(view: ChainSnapshot, target: number): Promise<void> {
    const { reader, store, fromBlock } = this.#options;
    const first = Math.max(0, fromBlock - 1);
    if (first > target)
      throw new WatcherError('bad-configuration', `from_block ${fromBlock} is not on the chain yet`, {
        expected: `at most ${target}`,
        found: String(fromBlock),
      });
    const [block] = await reader.blocks(view, [first]);
    const checkpoints = [{ number: first, hash: block!.hash, time: block!.timestamp }];
    await store.update((state) => ({ ...state, chainId: view.chainId, checkpoints, verified: first }));
  }

  async #findGovernors(view: ChainSnapshot, target: number): Promise<boolean> {
    const { reader } = this.#options;
    const found = await findGovernors(reader, view, this.model, this.#sources.all, this.#asked);
    this.#sources.addGovernors(found, target);
    return found.length > 0;
  }

  async #step(view: ChainSnapshot, target: number, wanted: Wanted): Promise<readonly Alert[]> {
    const { store, maxApps } = this.#options;
    let range: LogRange;
    try {
      range = await this.#read(view, target, wanted);
    } catch (error) {
      if (!(error instanceof TooMuch)) throw error;
      return await this.#smaller(view, target, wanted);
    }
    this.#range = Math.min(this.#options.range, this.#range * 2);
    const sources = this.#sources.all;
    const kinds = new Map(wanted.addresses.map((address) => [address as string, sources[address]!]));
    const decoded = await decodeEvents(range, kinds);
    const { fresh, moved } = sortOut(decoded, this.model, store.state.orphans);
    const epochs =
      wanted.topics !== undefined
        ? // What was left out is counted by the contract too.
          {
            offsets: new Map<string, number>(),
            alerts: partlyRead(wanted, range.end, sources),
            verified: false,
          }
        : wanted.to === target
          ? await this.#epochs(view, range, wanted.addresses, [...fresh, ...moved])
          : undefined;
    const limited = this.#strangers.admit(fresh.filter(newsFilter(this.model)));
    const { leftOut } = limited;
    const seen = fresh.filter((event) => !leftOut.has(event));
    const apps = discoveredApps([...seen, ...moved], sources, maxApps);
    const orphans = { ...store.state.orphans };
    for (const { id } of moved) delete orphans[id];
    const { checkpoints: before } = store.state;
    const last = before.at(-1)!;
    const checkpoints =
      wanted.to > last.number
        ? withCheckpoint(before, {
            number: wanted.to,
            hash: range.end.hash,
            time: range.end.timestamp,
          })
        : before;
    const alerts = this.#keeper.judge(limited.kept, this.#context);
    const all = [...alerts, ...apps.alerts, ...limited.alerts, ...(epochs?.alerts ?? [])];
    const entries: JournalEntry[] = [
      ...limited.kept.map((event) => ({ type: 'event', event }) as const),
      ...moved.map(
        ({ id, block, blockHash, index, time }) =>
          ({ type: 'moved', id, block, blockHash, index, time }) as const,
      ),
    ];
    await this.#keeper.commit(
      {
        sources: {
          ...sources,
          ...advanced(sources, wanted, { muted: limited.muted, leftOut, epochs: epochs?.offsets }),
          ...apps.sources,
        },
        checkpoints,
        orphans,
        counts: counted(store.state.counts, limited.kept, leftOut.size),
        ...(epochs?.verified ? { verified: wanted.to } : {}),
      },
      all,
      entries,
      // Older than what is known: in the order of the chain it comes before.
      moved.length > 0 || wanted.from <= last.number,
    );
    this.#sources.stored();
    return all;
  }

  /** When events are missing, the KMS is read once more from where nothing was missing. */
  async #epochs(
    view: ChainSnapshot,
    { end }: LogRange,
    addresses: Wanted['addresses'],
    added: readonly GovernanceEvent[],
  ): ReturnType<typeof checkEpochs> {
    const { reader, store } = this.#options;
    const sources = this.#sources.all;
    try {
      return await checkEpochs(reader, view, { block: end, addresses, sources, model: this.model, added });
    } catch (error) {
      const kms = store.state.sources[store.state.kms];
      if (error instanceof WatcherError && error.code === 'events-missing' && kms !== undefined) {
        const next = Math.min(kms.next, store.state.verified + 1);
        await this.#keeper.commit(
          { sources: { ...store.state.sources, [store.state.kms]: rewound(kms, next) } },
          [],
          [],
          true,
        );
      }
      throw error;
    }
  }

  get #context(): AlertContext {
    return {
      known: knownContracts(this.#sources.all, this.#options.multiSend),
      isListed: (address) => this.#sources.isListed(address),
      inUse: this.#options.inUse,
    };
  }

  async #read(view: ChainSnapshot, target: number, wanted: Wanted): Promise<LogRange> {
    const { reader, store } = this.#options;
    if (target - wanted.from >= NEAR) return await reader.pastLogs(view, wanted);
    const parent = store.state.checkpoints.find(({ number }) => number === wanted.from - 1)?.hash;
    const range = await reader.nearLogs(view, wanted, parent);
    const expected =
      wanted.to === target
        ? view.finalized.hash
        : store.state.checkpoints.find(({ number }) => number === wanted.to)?.hash;
    if (expected !== undefined && range.end.hash !== expected)
      throw new PolicyError('backend-answer', 'The chain changed its branch while it was read');
    return range;
  }

  /**
   * Half the blocks; of a single block half the contracts; of a single contract of ours what strangers cannot cause. A single
   * stranger that is too much is not followed further.
   */
  async #smaller(view: ChainSnapshot, target: number, wanted: Wanted): Promise<readonly Alert[]> {
    const { store } = this.#options;
    const blocks = wanted.to - wanted.from + 1;
    if (blocks > 1) {
      this.#range = Math.max(1, Math.floor(blocks / 2));
      return [];
    }
    const half = wanted.addresses.slice(0, Math.floor(wanted.addresses.length / 2));
    if (half.length > 0) return await this.#step(view, target, { ...wanted, addresses: half });
    const strangers = wanted.addresses.filter((address) => !this.#sources.isListed(address));
    const [own] = wanted.addresses;
    if (strangers.length === 0 && own !== undefined && wanted.topics === undefined) {
      const topics = governedTopics(this.#sources.all[own]!.kind);
      return await this.#step(view, target, { ...wanted, topics });
    }
    if (strangers.length === 0)
      throw new WatcherError('events-missing', `Block ${wanted.from} has more events than can be read`);
    const muted = `block ${wanted.from} has more events than can be read`;
    const alerts = strangers.map((address) => appMuted(address, muted));
    const sources = { ...store.state.sources };
    for (const address of strangers) sources[address] = { ...sources[address]!, muted };
    await this.#keeper.commit({ sources }, alerts, [], true);
    return alerts;
  }
}

/** Tells that a block of a contract of ours was not read whole, unless it is history. */
function partlyRead({ addresses }: Wanted, end: Block, sources: FollowedSources['all']): Alert[] {
  const block = Number(end.number);
  return addresses
    .filter((address) => block >= sources[address]!.alertsFrom)
    .map((contract) => ({
      id: `${contract}/${end.hash}/events-left-out`,
      rule: 'events-left-out',
      severity: 'warning',
      text: `Block ${block} has more events of ${contract} than can be read: what anybody can cause there (registrations of apps, payments to a Safe) and what this program does not know is left out`,
      time: end.timestamp,
      contract,
      block,
    }));
}

function counted(
  before: Readonly<Record<string, number>>,
  events: readonly GovernanceEvent[],
  leftOut: number,
): Record<string, number> {
  const counts = { ...before };
  if (leftOut > 0) counts['left-out'] = (counts['left-out'] ?? 0) + leftOut;
  for (const { source, name } of events) {
    const key = `event/${source}/${name}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

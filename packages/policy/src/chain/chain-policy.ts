import { sharedFor } from '@dstack-cloud/runtime';
import { assertBootInfo } from '../assert-boot-info.ts';
import { PolicyError } from '../errors.ts';
import { outageReason } from '../outage-reasons.ts';
import type { Decision, DecisionFailure, Policy, PolicyInfo } from '../policy.ts';
import { publicText } from '../public-text.ts';
import { type ChainPolicyOptions, type ChainSettings, chainSettings } from './chain-options.ts';
import { chainReaders } from './chain-readers.ts';
import { encodeDecisionCall } from './contracts/contract-calls.ts';
import { DecisionCache } from './decision-cache.ts';
import type { ContractDecision, DecisionRequest } from './decision-reader.ts';
import { multicallRevalidation } from './revalidation/multicall-revalidation.ts';
import { readRevalidation } from './revalidation/read-revalidation.ts';
import { Revalidator } from './revalidation/revalidator.ts';
import type { Block } from './rpc/block.ts';
import { RpcEndpoint } from './rpc/rpc-endpoint.ts';
import { ToldSeldom } from './rpc/told-seldom.ts';
import { withDeadline } from './rpc/with-deadline.ts';
import { KnownHeads } from './snapshot/known-heads.ts';
import { readLightClientSnapshot } from './snapshot/light-client-snapshot.ts';
import { type ChainSnapshot, readSnapshot } from './snapshot/read-snapshot.ts';
import { SnapshotSource } from './snapshot/snapshot-source.ts';

const INFO_REUSE_MS = 1_000;

/** State of the chain source, for metrics and readiness. */
export type ChainStatus = {
  readonly blockNumber?: bigint;
  /** Seconds between the block of the last decision and now. */
  readonly lagSeconds?: number;
  readonly decisions: {
    /** Requests that were answered without waiting for the network. */
    readonly hits: number;
    /** Requests that waited. */
    readonly misses: number;
    /** Permissions that were found to hold at a later block before anybody asked. */
    readonly revalidated: number;
    /** Permissions that were not found to. */
    readonly dropped: number;
  };
  readonly endpoints: readonly EndpointStatus[];
};

/** State of one endpoint. */
type EndpointStatus = {
  /** Scheme and host. */
  readonly url: string;
  /** False while it rests after failures or for being slow. */
  readonly healthy: boolean;
  /** Failed exchanges since the last good one. */
  readonly failures: number;
  /** HTTP requests sent. */
  readonly exchanges: number;
  /** JSON-RPC calls in them. */
  readonly calls: number;
};

/** The chain source. */
export type ChainPolicy = Policy & { status(): ChainStatus };

/**
 * Decide by DstackKms and DstackApp on chain, read at one agreed block. Whatever cannot be
 * read, is too old, or is not agreed upon denies.
 * @throws PolicyError `bad-configuration`
 */
export function chainPolicy(options: ChainPolicyOptions): ChainPolicy {
  const settings = chainSettings(options);
  const { kmsContract, totalTimeoutMs, now } = settings;
  const { lightClientUrl, endpointTimeoutMs } = settings;
  const endpointOf = (url: string): RpcEndpoint =>
    new RpcEndpoint(url, endpointTimeoutMs, (endpoint, what) =>
      settings.onEvent({ type: 'endpoint-lacks', endpoint, what }),
    );
  const endpoints = settings.rpcUrls.map(endpointOf);
  const lightClient = lightClientUrl === undefined ? undefined : endpointOf(lightClientUrl);
  const everybody = lightClient ? [lightClient, ...endpoints] : endpoints;
  const cache = new DecisionCache();
  const { readDecision, readInfo } = chainReaders[settings.reads](settings);
  const revalidator = new Revalidator(
    cache,
    // Counters say that nothing changed, and not what the code and the delay are.
    settings.reads === 'calls' && settings.requireTimelockSeconds === undefined
      ? multicallRevalidation(settings)
      : readRevalidation(readDecision),
  );
  const undecided = new ToldSeldom();
  let [hits, misses] = [0, 0];
  const known = new KnownHeads();
  let lastBlock: bigint | undefined;

  const read = async (hearAll = false): Promise<ChainSnapshot> => {
    const snapshot = lightClient
      ? await readLightClientSnapshot(lightClient, endpoints, settings)
      : await readSnapshot(endpoints, settings, { known, hearAll });
    const { head } = snapshot;
    // Two readings may be under way at once.
    known.assertNotBehind(head);
    // One from the future would hold all others up.
    if (!isStale(head, settings)) known.note(head);
    if (head.number !== lastBlock) {
      lastBlock = head.number;
      settings.onEvent({ type: 'block', number: head.number, lagSeconds: lagOf(head, now()) });
    }
    return snapshot;
  };
  /** For a caller whose endpoints did not agree: also waits for those that the snapshot did not wait for. */
  const fullSnapshots = new SnapshotSource(() => read(true), { reuseMs: 0 });
  const snapshots = new SnapshotSource(read, {
    reuseMs: settings.headReuseMs,
    prepare: (snapshot) =>
      settings.headReuseMs === 0 || isStale(snapshot.head, settings)
        ? undefined
        : revalidator.prepare(snapshot),
  });

  /** Ask the contract at both blocks of the snapshot; a denial at either is the answer. */
  const decideAtSnapshot = async (snapshot: ChainSnapshot, request: DecisionRequest): Promise<Decision> => {
    assertFresh(snapshot.head, settings);
    const decisions = await Promise.all(
      blocksOf(snapshot).map((block) => decideAtBlock(snapshot, block, request)),
    );
    const decision = decisions.find(({ allowed }) => !allowed) ?? decisions.at(-1);
    if (!decision) throw new PolicyError('backend-answer', 'no block to decide at');
    return { ...decision, blockNumber: snapshot.head.number };
  };
  const decideAtBlock = (
    snapshot: ChainSnapshot,
    block: Block,
    request: DecisionRequest,
  ): Promise<ContractDecision> =>
    cache.get(block.hash, request, () => readDecision(snapshot, block, request));

  /** The decision cached for a recent snapshot: no network, no timer. */
  const cachedDecision = ({ call }: DecisionRequest): Decision | undefined => {
    const snapshot = snapshots.recent();
    if (!snapshot || isStale(snapshot.head, settings)) return undefined;
    let last: ContractDecision | undefined;
    for (const block of blocksOf(snapshot)) {
      last = cache.known(block.hash, call);
      if (!last) return undefined;
    }
    return last && { ...last, blockNumber: snapshot.head.number };
  };

  const decide = async (request: DecisionRequest): Promise<Decision> => {
    const { snapshot, reused } = await snapshots.current();
    const decision = await decideAtSnapshot(snapshot, request).catch((error: unknown) => {
      if (error instanceof PolicyError && (reused || AGAIN.has(error.code))) return null;
      throw error;
    });
    if (decision && (decision.allowed || !reused)) return decision;
    // Nor must what is allowed now be refused because of a snapshot from before.
    const latest = await snapshots.fresh();
    const again = await decideAtSnapshot(latest, request).catch(onlyAgain);
    if (!again) return await decideAtSnapshot(await fullSnapshots.fresh(), request);
    // Who asks next shall hear no older permission.
    if (!again.allowed) snapshots.show(latest);
    return again;
  };

  const describe = async (): Promise<PolicyInfo> => {
    const { snapshot } = await snapshots.current(false);
    return {
      kmsContract,
      chainId: snapshot.chainId,
      ...(await readInfo(snapshot)),
      ethRpcUrl: endpoints[0]?.name ?? '',
    };
  };

  return {
    async authorize(kind, info) {
      assertBootInfo(info);
      const request = { kind, info, call: encodeDecisionCall(kind, info) };
      const known = cachedDecision(request);
      if (known) {
        hits += 1;
        cache.touch(request);
        return known;
      }
      misses += 1;
      try {
        const decision = await withDeadline(decide(request), totalTimeoutMs);
        if (decision.allowed) cache.touch(request);
        return decision;
      } catch (error) {
        if (!(error instanceof PolicyError)) throw error;
        const decision = refusal(error);
        const times = undecided.count();
        if (times !== undefined) {
          const { failure } = decision;
          settings.onEvent({ type: 'undecided', failure, message: why(error), times });
        }
        return decision;
      }
    },
    describe: sharedFor(INFO_REUSE_MS, () => withDeadline(describe(), totalTimeoutMs)),
    status() {
      const head = snapshots.latest?.head;
      return {
        ...(head ? { blockNumber: head.number, lagSeconds: lagOf(head, now()) } : {}),
        decisions: { hits, misses, ...revalidator.counts },
        endpoints: everybody.map(({ name, healthy, failures, sent }) => ({
          url: name,
          healthy,
          failures,
          ...sent,
        })),
      };
    },
    close() {
      snapshots.close();
      for (const endpoint of everybody) endpoint.close();
    },
  };
}

/** What may be right at another head, or when all endpoints are heard: a reorganisation removes blocks. */
const AGAIN: ReadonlySet<string> = new Set([
  'backend-answer',
  'chain-no-quorum',
  'chain-header',
  'chain-proof',
]);

function onlyAgain(error: unknown): null {
  if (error instanceof PolicyError && AGAIN.has(error.code)) return null;
  throw error;
}

/** Mostly one: the finalized block is the head itself without a finality rule. */
const blocksOf = ({ head, finalized }: ChainSnapshot): Block[] =>
  head === finalized ? [head] : [head, finalized];

/** A frozen endpoint hides revocations, so an old head decides nothing. */
function assertFresh(head: Block, settings: ChainSettings): void {
  if (!isStale(head, settings)) return;
  const ahead = lagOf(head, settings.now()) < 0;
  throw new PolicyError('chain-stale', ahead ? outageReason.ahead : outageReason.stale);
}

function isStale(head: Block, { maxBlockAgeSeconds, maxClockSkewSeconds, now }: ChainSettings): boolean {
  const lag = lagOf(head, now());
  return lag > maxBlockAgeSeconds || -lag > maxClockSkewSeconds;
}

function lagOf(block: Block, now: number): number {
  return now - block.timestamp;
}

/** What the workload hears when the policy could not be read. */
function refusal(error: PolicyError): Decision & { readonly failure: DecisionFailure } {
  const failures: Partial<Record<string, DecisionFailure>> = {
    'chain-stale': 'stale',
    'chain-no-quorum': 'no-quorum',
  };
  const failure = failures[error.code] ?? 'unavailable';
  const reason = failure === 'unavailable' ? outageReason.unavailable : error.message;
  return { allowed: false, reason, gatewayAppId: '', failure };
}

/** What the operator hears then: what went wrong, and what that came from, without addresses. */
function why(error: PolicyError): string {
  const { cause } = error;
  const because = cause instanceof PolicyError ? `: ${cause.code}: ${cause.message}` : '';
  return publicText(`${error.code}: ${error.message}${because}`);
}

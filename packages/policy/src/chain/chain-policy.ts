import { sharedFor } from '@dstack-cloud/runtime';
import { assertBootFacts } from '../boot-facts.ts';
import { PolicyError } from '../errors.ts';
import { outageReason } from '../outage-reasons.ts';
import type { BootFacts, BootKind, Decision, DecisionFailure, Policy, PolicyInfo } from '../policy.ts';
import { publicText } from '../public-text.ts';
import { type ChainPolicyOptions, type ChainSettings, chainSettings } from './chain-options.ts';
import { chainReaders } from './chain-readers.ts';
import { encodeDecisionCall } from './contracts/contract-calls.ts';
import { PermissionBook } from './permission-book.ts';
import { packedRenewal } from './renewal/packed-renewal.ts';
import { readRenewal } from './renewal/read-renewal.ts';
import { Renewals } from './renewal/renewals.ts';
import type { Block } from './rpc/block.ts';
import { RpcEndpoint } from './rpc/rpc-endpoint.ts';
import { ToldSeldom } from './rpc/told-seldom.ts';
import { withDeadline } from './rpc/with-deadline.ts';
import type { Verdict, VerdictRequest } from './verdict-reader.ts';
import { KnownHeads } from './view/known-heads.ts';
import { readLightClientView } from './view/light-client-view.ts';
import { type ChainView, readView } from './view/read-view.ts';
import { ViewSource } from './view/view-source.ts';

const INFO_REUSE_MS = 1_000;

/** State of the chain source, for metrics and readiness. */
export type ChainStatus = {
  readonly blockNumber?: bigint;
  /** Seconds between the block of the last decision and now. */
  readonly lagSeconds?: number;
  readonly permissions: {
    /** Requests that were answered without waiting for the network. */
    readonly hits: number;
    /** Requests that waited. */
    readonly misses: number;
    /** Permissions that were found to hold at a later block before anybody asked. */
    readonly renewed: number;
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
  const book = new PermissionBook();
  const { readVerdict, readInfo } = chainReaders[settings.reads](settings);
  const renewals = new Renewals(
    book,
    // Counters say that nothing changed, and not what the code and the delay are.
    settings.reads === 'calls' && settings.requireTimelockSeconds === undefined
      ? packedRenewal(settings)
      : readRenewal(readVerdict),
  );
  const undecided = new ToldSeldom();
  let [hits, misses] = [0, 0];
  const known = new KnownHeads();
  let lastBlock: bigint | undefined;

  const read = async (hearAll = false): Promise<ChainView> => {
    const view = lightClient
      ? await readLightClientView(lightClient, endpoints, settings)
      : await readView(endpoints, settings, { known, hearAll });
    const { head } = view;
    // Two readings may be under way at once.
    known.assertNotBehind(head);
    // One from the future would hold all others up.
    if (!isStale(head, settings)) known.note(head);
    if (head.number !== lastBlock) {
      lastBlock = head.number;
      settings.onEvent({ type: 'block', number: head.number, lagSeconds: lagOf(head, now()) });
    }
    return view;
  };
  /** For who got no agreement from the endpoints of a view: also those are heard that were not waited for. */
  const wholeViews = new ViewSource(() => read(true), { reuseMs: 0 });
  const views = new ViewSource(read, {
    reuseMs: settings.headReuseMs,
    prepare: (view) =>
      settings.headReuseMs === 0 || isStale(view.head, settings) ? undefined : renewals.prepare(view),
  });

  /** Ask the contract at both blocks of the view; a denial at either is the answer. */
  const judge = async (view: ChainView, request: VerdictRequest): Promise<Decision> => {
    assertFresh(view.head, settings);
    const verdicts = await Promise.all(blocksOf(view).map((block) => judgeAt(view, block, request)));
    const verdict = verdicts.find(({ allowed }) => !allowed) ?? verdicts.at(-1);
    if (!verdict) throw new PolicyError('backend-answer', 'no block to decide at');
    return { ...verdict, blockNumber: view.head.number };
  };
  const judgeAt = (view: ChainView, block: Block, request: VerdictRequest): Promise<Verdict> =>
    book.get(block.hash, request, () => readVerdict(view, block, request));

  /** The permission that a recent view already holds: no network, no timer. */
  const knownPermission = ({ call }: VerdictRequest): Decision | undefined => {
    const view = views.recent();
    if (!view || isStale(view.head, settings)) return undefined;
    let last: Verdict | undefined;
    for (const block of blocksOf(view)) {
      last = book.known(block.hash, call);
      if (!last) return undefined;
    }
    return last && { ...last, blockNumber: view.head.number };
  };

  const decide = async (request: VerdictRequest): Promise<Decision> => {
    const { view, reused } = await views.current();
    const decision = await judge(view, request).catch((error: unknown) => {
      if (error instanceof PolicyError && (reused || AGAIN.has(error.code))) return null;
      throw error;
    });
    if (decision && (decision.allowed || !reused)) return decision;
    // Nor must what is allowed now be refused because of a view from before.
    const latest = await views.fresh();
    const again = await judge(latest, request).catch(onlyAgain);
    if (!again) return await judge(await wholeViews.fresh(), request);
    // Who asks next shall hear no older permission.
    if (!again.allowed) views.show(latest);
    return again;
  };

  const describe = async (): Promise<PolicyInfo> => {
    const { view } = await views.current(false);
    return {
      kmsContract,
      chainId: view.chainId,
      ...(await readInfo(view)),
      ethRpcUrl: endpoints[0]?.name ?? '',
    };
  };

  return {
    async authorize(kind, info) {
      const request = requestOf(kind, info);
      const known = knownPermission(request);
      if (known) {
        hits += 1;
        book.touch(request);
        return known;
      }
      misses += 1;
      try {
        const decision = await withDeadline(decide(request), totalTimeoutMs);
        if (decision.allowed) book.touch(request);
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
      const head = views.latest?.head;
      return {
        ...(head ? { blockNumber: head.number, lagSeconds: lagOf(head, now()) } : {}),
        permissions: { hits, misses, ...renewals.counts },
        endpoints: everybody.map(({ name, healthy, failures, sent }) => ({
          url: name,
          healthy,
          failures,
          ...sent,
        })),
      };
    },
    close() {
      views.close();
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

/** Mostly one: the settled block is the head itself without a finality rule. */
const blocksOf = ({ head, settled }: ChainView): Block[] => (head === settled ? [head] : [head, settled]);

/** Requests of facts that come again: they are the same object as long as the evidence is the same. */
const requests: Record<BootKind, WeakMap<BootFacts, VerdictRequest>> = {
  app: new WeakMap(),
  kms: new WeakMap(),
};

/** @throws PolicyError `invalid-request` */
function requestOf(kind: BootKind, info: BootFacts): VerdictRequest {
  const known = requests[kind].get(info);
  if (known) return known;
  assertBootFacts(info);
  const request = { kind, info, call: encodeDecisionCall(kind, info) };
  requests[kind].set(info, request);
  return request;
}

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

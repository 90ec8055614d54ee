import { setTimeout as sleep } from 'node:timers/promises';
import { BoundedMap } from '@dstack-cloud/runtime';
import type { ChainSettings } from '../chain-options.ts';
import { encodeGetter, encodeIsPolicy } from '../contracts/contract-calls.ts';
import type { ContractDecision, DecisionRequest } from '../decision-reader.ts';
import { assertPolicyContract, gatewayOf } from '../eth-call-decisions.ts';
import { readMulticall } from '../multicall/read-multicall.ts';
import type { Block } from '../rpc/block.ts';
import type { ChainSnapshot } from '../snapshot/read-snapshot.ts';
import {
  addDecision,
  addEpoch,
  addEpochProbe,
  addNotAfter,
  contractOf,
  type EpochRead,
  ReadList,
} from './epoch-reads.ts';
import { isDescendant } from './is-descendant.ts';
import type { Revalidation } from './revalidation.ts';

/** So many are prepared, sent and evaluated at once: neither requests that come meanwhile nor the endpoints see a burst. */
const SLICE = 64;
/** Between two of them … */
const PAUSE_MS = 15;
/** … and between all of them together: requests see the new block that much later. */
const ALL_PAUSES_MS = 300;
/** Marks are kept for so many blocks. */
const MAX_BLOCKS = 8;

/** What tells at a later block that a permission still holds. */
type Mark = { readonly kms: string; readonly app: string; readonly notAfter: number };
type Answers = Parameters<EpochRead>[0];
/** Marks of what is permitted, by call; without one, only reading the decision again tells. */
type Found = Map<string, Mark | undefined>;

/**
 * Revalidation by reads that the endpoints execute, many in one call. Where DstackKms and the app's contract count their
 * changes (`policyEpoch`), the counters are read, and a permission is carried over to a descendant at which both are
 * the same. All others are read again: an event that did not come from a contract that we do not know proves nothing.
 */
export function multicallRevalidation({ quorum, kmsContract }: ChainSettings): Revalidation {
  const marksAt = new BoundedMap<string, Found>(MAX_BLOCKS);
  /** Whether DstackKms counted when it was last read: otherwise no app's counter is of use. */
  let kmsCounts = true;

  /** What is read of each request, and what the answers say: undefined for not permitted. */
  const watch = (list: ReadList, { kind, info }: DecisionRequest, mark: Mark, kms: EpochRead) => {
    const app = kind === 'app' ? addEpoch(list, contractOf(info.appId)) : noApp;
    return (answers: Answers): { mark: Mark | undefined } | undefined =>
      kms(answers) === mark.kms && app(answers) === mark.app ? { mark } : undefined;
  };
  const decideAnew = (list: ReadList, request: DecisionRequest, kms: EpochRead) => {
    const allowed = addDecision(list, kmsContract, request.call);
    if (!kmsCounts) return (answers: Answers) => (allowed(answers) ? { mark: undefined } : undefined);
    const app = request.kind === 'app' ? addEpochProbe(list, contractOf(request.info.appId)) : noApp;
    const notAfter = addNotAfter(list, kmsContract, request);
    return (answers: Answers): { mark: Mark | undefined } | undefined => {
      if (!allowed(answers)) return undefined;
      const found = { kms: kms(answers), app: app(answers), notAfter: notAfter(answers) };
      return { mark: isWhole(found) ? found : undefined };
    };
  };

  return async (snapshot, from, to, requests) => {
    let branch: Promise<boolean> | undefined;
    const descends = (): Promise<boolean> => {
      branch ??= isDescendant(snapshot, quorum, from, to);
      return branch;
    };
    const slices: Promise<ReadonlyMap<string, ContractDecision>>[] = [];
    const pauseMs = Math.min(PAUSE_MS, (ALL_PAUSES_MS * SLICE) / requests.length);
    for (let start = 0; start < requests.length; start += SLICE) {
      const revalidated = renewSlice(snapshot, from, to, requests.slice(start, start + SLICE), descends);
      // The first failure is thrown below, once all are under way.
      revalidated.catch(() => undefined);
      slices.push(revalidated);
      if (start + SLICE < requests.length) await sleep(pauseMs);
    }
    return new Map((await Promise.all(slices)).flatMap((revalidated) => [...revalidated]));
  };

  async function renewSlice(
    snapshot: ChainSnapshot,
    from: Block,
    to: Block,
    requests: readonly DecisionRequest[],
    descendsFrom: () => Promise<boolean>,
  ): Promise<ReadonlyMap<string, ContractDecision>> {
    const marks = marksAt.get(from.hash);
    const markOf = ({ call }: DecisionRequest): Mark | undefined => {
      const mark = marks?.get(call);
      return mark && to.timestamp < mark.notAfter ? mark : undefined;
    };
    const watched = requests.filter((request) => markOf(request));
    const [{ found, gatewayAppId }, descends] = await Promise.all([
      round(snapshot, to, requests, markOf),
      watched.length > 0 && descendsFrom(),
    ]);
    if (!descends) for (const { call } of watched) found.delete(call);
    const changed = watched.filter(({ call }) => !found.has(call));
    if (changed.length > 0) {
      for (const [call, mark] of (await round(snapshot, to, changed, () => undefined)).found)
        found.set(call, mark);
    }
    // What was found out at this block before, as it was the head, still is so.
    const known: Found = marksAt.get(to.hash) ?? new Map();
    for (const [call, mark] of found) known.set(call, mark);
    marksAt.set(to.hash, known);
    const permission: ContractDecision = { allowed: true, reason: '', gatewayAppId };
    return new Map([...found.keys()].map((call) => [call, permission]));
  }

  /** One round trip for all of them. */
  async function round(
    snapshot: ChainSnapshot,
    block: Block,
    requests: readonly DecisionRequest[],
    markOf: (request: DecisionRequest) => Mark | undefined,
  ): Promise<{ found: Found; gatewayAppId: string }> {
    const list = new ReadList();
    const kms = addEpochProbe(list, kmsContract);
    const readers = requests.map((request) => {
      const mark = markOf(request);
      return mark ? watch(list, request, mark, kms) : decideAnew(list, request, kms);
    });
    const facts = [encodeGetter('gatewayAppId'), encodeIsPolicy()].map((data) => ({ to: kmsContract, data }));
    const { plain, reads } = await readMulticall(snapshot.endpoints, quorum, block, facts, list.reads);
    assertPolicyContract(plain[1]);
    kmsCounts = kms(reads) !== undefined;
    const found: Found = new Map();
    for (const [index, read] of readers.entries()) {
      const result = read(reads);
      if (result) found.set(requests[index]!.call, result.mark);
    }
    return { found, gatewayAppId: gatewayOf(plain[0]) };
  }
}

/** A KMS has no contract of its own. */
const noApp: EpochRead = () => '';

function isWhole(mark: { [K in keyof Mark]: Mark[K] | undefined }): mark is Mark {
  return mark.kms !== undefined && mark.app !== undefined && mark.notAfter !== undefined;
}

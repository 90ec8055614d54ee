import { performance } from 'node:perf_hooks';
import type { Block } from '../rpc/block.ts';
import { type CallObject, type CallResult, callResult, callsAt, resultsKey } from '../rpc/pinned-calls.ts';
import { agreeing, collectVotes, noQuorum, type Vote } from '../rpc/quorum.ts';
import type { RpcAnswer } from '../rpc/rpc-answer.ts';
import type { RpcEndpoint } from '../rpc/rpc-endpoint.ts';
import {
  type ContractRead,
  decodeMulticall,
  encodeMulticall,
  entryBytes,
  type ReadAnswer,
  readAnswer,
} from './multicall-code.ts';

/** Given to each multicall; below what nodes and EIP-7825 allow to one transaction. */
const MULTICALL_GAS = 16_000_000;
/** Of it, for the reads: all of them may use up their limits, so that none can take anything from another. */
const READS_GAS = 13_000_000;
/** What a multicall spends on a read beyond the contract's limit: 33 bytes of answer, a cold account, its loop. */
const GAS_PER_READ = 12_000;
/** Init code of EIP-3860 is 49,152 bytes. */
const MAX_MULTICALL_BYTES = 48_000;
/** An endpoint that refused so many rounds in a row is asked call by call … */
const MAX_REFUSALS = 2;
/** … until it is tried again. */
const REFUSED_MS = 60_000;

/** What was read: by position, and null for whatever failed or was not agreed upon. */
export type MulticallResults = {
  readonly reads: readonly ReadAnswer[];
  readonly plain: readonly CallResult[];
};

/**
 * Read many contracts at one block in one round trip to each endpoint. Endpoints must agree about each read by
 * itself: what a hostile contract answers differently to each of them harms nothing but itself.
 * @param plain calls whose answers are wanted whole; all of them must be agreed upon
 * @throws PolicyError when `plain` has no quorum
 */
export async function readMulticall(
  endpoints: readonly RpcEndpoint[],
  quorum: number,
  block: Block,
  plain: readonly CallObject[],
  reads: readonly ContractRead[],
): Promise<MulticallResults> {
  const sameness = (results: MulticallResults): string => resultsKey(results.plain);
  const votes = await collectVotes(endpoints, quorum, (endpoint) => ask(endpoint, block, plain, reads), {
    sameness,
  });
  const agreed = agreeing(votes, quorum, sameness);
  const [first] = agreed ?? [];
  if (!agreed || !first) throw noQuorum();
  return {
    plain: first.value.plain,
    reads: reads.map((_, index) => majority(agreed, quorum, index)),
  };
}

function majority(
  votes: readonly Vote<RpcEndpoint, MulticallResults>[],
  quorum: number,
  index: number,
): ReadAnswer {
  const counts = new Map<string, number>();
  for (const { value } of votes) {
    const answer = value.reads[index];
    if (answer === null || answer === undefined) continue;
    const count = (counts.get(answer) ?? 0) + 1;
    if (count >= quorum) return answer;
    counts.set(answer, count);
  }
  return null;
}

async function ask(
  endpoint: RpcEndpoint,
  block: Block,
  plain: readonly CallObject[],
  reads: readonly ContractRead[],
): Promise<MulticallResults> {
  const { multicallRefusals: refused } = endpoint;
  if (refused.count >= MAX_REFUSALS && performance.now() - refused.at < REFUSED_MS) {
    return await askSingly(endpoint, block, plain, reads);
  }
  const multicalls = multicallsOf(reads);
  const gas = `0x${MULTICALL_GAS.toString(16)}`;
  const objects = multicalls.map((multicall) => ({ data: encodeMulticall(multicall), gas }));
  const answers = await callsAt(endpoint, block, [...plain, ...objects], plain.length);
  // An endpoint that does not know the block throws here, and has refused nothing.
  const whole = answers.slice(0, plain.length).map(callResult);
  const decoded = multicalls.map((multicall, index) =>
    multicallOf(answers[plain.length + index], multicall.length),
  );
  if (multicalls.length > 0 && decoded.every((multicall) => multicall === undefined)) {
    endpoint.multicallRefusals = { count: refused.count + 1, at: performance.now() };
  } else {
    endpoint.multicallRefusals = { count: 0, at: 0 };
  }
  return {
    plain: whole,
    reads: decoded.flatMap((multicall, index) => multicall ?? multicalls[index]!.map(() => null)),
  };
}

/** The same with one call for each read. */
async function askSingly(
  endpoint: RpcEndpoint,
  block: Block,
  plain: readonly CallObject[],
  reads: readonly ContractRead[],
): Promise<MulticallResults> {
  const objects = reads.map(({ target, gas, data }) => {
    // A call pays for its data; the read's limit does not.
    const whole = gas + 21_000 + entryBytes({ target, gas, data }) * 40;
    return { to: target, data, gas: `0x${whole.toString(16)}` };
  });
  const answers = await callsAt(endpoint, block, [...plain, ...objects], plain.length);
  return {
    plain: answers.slice(0, plain.length).map(callResult),
    reads: answers.slice(plain.length).map(singleAnswer),
  };
}

function singleAnswer(answer: RpcAnswer): ReadAnswer {
  if (!('result' in answer)) return null;
  const result = callResult(answer);
  return typeof result === 'string' ? readAnswer(result) : null;
}

function multicallOf(answer: RpcAnswer | undefined, count: number): ReadAnswer[] | undefined {
  if (!answer || !('result' in answer) || typeof answer.result !== 'string') return undefined;
  return decodeMulticall(answer.result.toLowerCase(), count);
}

/** As many reads in each as fit whatever they use up. */
export function multicallsOf(reads: readonly ContractRead[]): ContractRead[][] {
  const multicalls: ContractRead[][] = [];
  let [gas, bytes] = [READS_GAS, MAX_MULTICALL_BYTES];
  for (const read of reads) {
    gas += read.gas + GAS_PER_READ;
    bytes += entryBytes(read);
    if (gas > READS_GAS || bytes > MAX_MULTICALL_BYTES) {
      multicalls.push([]);
      [gas, bytes] = [read.gas + GAS_PER_READ, entryBytes(read)];
    }
    multicalls.at(-1)!.push(read);
  }
  return multicalls;
}

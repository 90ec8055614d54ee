import { PolicyError } from '../../errors.ts';
import { type Block, blockCall, blockFromAnswer } from './block.ts';
import type { Lack } from './lacks.ts';
import { persist } from './persist.ts';
import { readBlock } from './read-block.ts';
import { isRevert, revertReason } from './revert.ts';
import type { RpcAnswer, RpcCall } from './rpc-answer.ts';
import type { RpcEndpoint } from './rpc-endpoint.ts';

/** A contract call that the contract itself ended. */
export class Reverted {
  /** What the contract said, as one endpoint has it; may be empty. */
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** What a contract call gave: return data as lower-case 0x hex, or that it reverted. */
export type CallResult = string | Reverted;

/** Equal for results that are the same. Nodes have different words for a revert, so these do not count. */
export function resultsKey(results: readonly CallResult[]): string {
  return results.map((result) => (typeof result === 'string' ? result : 'reverted')).join();
}

/** Codes that cannot mean anything else than that the `{blockHash}` form of EIP-1898 was not understood … */
const NOT_UNDERSTOOD = new Set([-32_600, -32_601, -32_602]);
/** … and texts. */
const NOT_UNDERSTOOD_TEXT =
  /block_?hash|EIP-?1898|hex string|unmarshal|invalid (argument|param|block|type)|(un|not )supported/i;

/** One call, before it is pinned: its first parameter. */
export type CallObject = {
  readonly from?: string;
  readonly to?: string;
  readonly value?: string;
  readonly data: string;
  readonly gas?: string;
};

/**
 * Execute calls at exactly this block, together with what others ask of the endpoint in the same tick. What is not
 * answered in the end is an error that the endpoint gave.
 * @param needed so many calls from the first on must be answered; the endpoint may refuse the others for good
 * @throws PolicyError `backend-…`
 */
export async function callsAt(
  endpoint: RpcEndpoint,
  block: Block,
  objects: readonly CallObject[],
  needed: number = objects.length,
): Promise<RpcAnswer[]> {
  const calls = (at: unknown): RpcCall[] =>
    objects.map((object) => ({ method: 'eth_call', params: [object, at] }));
  return await readsAt(endpoint, block, calls, needed);
}

/** The same for any methods whose last parameter names a block. */
export async function readsAt(
  endpoint: RpcEndpoint,
  block: Block,
  calls: (at: unknown) => RpcCall[],
  needed?: number,
): Promise<RpcAnswer[]> {
  const byHash = calls({ blockHash: block.hash });
  const count = needed ?? byHash.length;
  const byNumber = (): Promise<RpcAnswer[]> => numbered(endpoint, block, calls, count);
  return await byHashOrNumber(endpoint, endpoint.lacks.callsByHash, byHash, byNumber, count);
}

/**
 * Ask for the state at a block by the block's hash, or by its number where the endpoint does not understand that.
 * It may say so in any words: what is not answered by hash, and is by number, was not understood.
 * @param byNumber makes sure by itself that the answers belong to the block
 */
export async function byHashOrNumber(
  endpoint: RpcEndpoint,
  lack: Lack,
  byHash: readonly RpcCall[],
  byNumber: () => Promise<RpcAnswer[]>,
  needed: number = byHash.length,
): Promise<RpcAnswer[]> {
  if (lack.known) return await byNumber();
  const isUnderstood = (answers: readonly RpcAnswer[]): boolean =>
    answers.some((answer, index) => namesHash(byHash[index]!) && isAnswer(answer));
  const tryNumber = async (answers: readonly RpcAnswer[]): Promise<RpcAnswer[] | undefined> => {
    const instead = await byNumber().catch(unlessPolicyError);
    if (!instead || openOf(instead, needed).length > 0) return undefined;
    lack.note(answers.some(saysNotUnderstood));
    return instead;
  };

  const first = await endpoint.gather(byHash);
  // Nothing was ever answered by hash: the number tells whether that is why.
  const instead = isUnderstood(first) || lack.proved ? undefined : await tryNumber(first);
  if (instead) return instead;
  const answers = await askWhole(endpoint, byHash, first, needed);
  if (!isUnderstood(answers)) return (lack.proved ? await tryNumber(answers) : undefined) ?? answers;
  lack.disprove();
  return answers;
}

/** By number, in an exchange that also shows which block that is. */
async function numbered(
  endpoint: RpcEndpoint,
  block: Block,
  calls: (at: unknown) => RpcCall[],
  needed: number,
): Promise<RpcAnswer[]> {
  const all = [blockCall(block.number), ...calls(`0x${block.number.toString(16)}`)];
  const first = await endpoint.batch(all);
  const [shown, ...answers] = await askWhole(endpoint, all, first, needed + 1);
  assertStill(block, blockFromAnswer(shown));
  // In several exchanges, the block may have been shown before a reorganisation, and a call executed after it.
  const isOneExchange = openOf(first, needed + 1).length === 0 && !endpoint.lacks.batches.known;
  if (!isOneExchange) assertStill(block, await readBlock(endpoint, block.number));
  return answers;
}

/** @throws PolicyError `backend-answer` when it is another one */
function assertStill(block: Block, found: Block): void {
  if (found.hash === block.hash) return;
  throw new PolicyError('backend-answer', 'RPC endpoint left the agreed block: the chain reorganised');
}

/** Puts what was not answered again, for as long as that may help. */
export async function askWhole(
  endpoint: RpcEndpoint,
  calls: readonly RpcCall[],
  first?: RpcAnswer[],
  needed: number = calls.length,
): Promise<RpcAnswer[]> {
  return await persist(
    first ?? (await endpoint.gather(calls)),
    (before) => askOpen(endpoint, calls, before),
    (answers) => openOf(answers, needed).length === 0,
  );
}

/** Once more what was not answered. */
async function askOpen(
  endpoint: RpcEndpoint,
  calls: readonly RpcCall[],
  before: readonly RpcAnswer[],
): Promise<RpcAnswer[]> {
  const open = openOf(before);
  const again = await endpoint.batch(
    open.map((index) => calls[index]!),
    { fresh: true },
  );
  const answers = [...before];
  for (const [position, index] of open.entries()) answers[index] = again[position]!;
  return answers;
}

/** Positions of what was not answered. */
function openOf(answers: readonly RpcAnswer[], needed: number = answers.length): number[] {
  return answers.slice(0, needed).flatMap((answer, index) => (isAnswer(answer) ? [] : [index]));
}

/** A revert is an answer of the contract; null is none: a backend does not have the block. */
function isAnswer(answer: RpcAnswer): boolean {
  return 'result' in answer ? answer.result !== null : isRevert(answer.error);
}

const namesHash = ({ params }: RpcCall): boolean => typeof params.at(-1) === 'object';

function saysNotUnderstood(answer: RpcAnswer): boolean {
  if (!('error' in answer)) return false;
  return NOT_UNDERSTOOD.has(answer.error.code) || NOT_UNDERSTOOD_TEXT.test(answer.error.message);
}

function unlessPolicyError(error: unknown): undefined {
  if (!(error instanceof PolicyError)) throw error;
}

/** @throws PolicyError `backend-answer` for an error of the node, which is no answer of the contract */
export function callResult(answer: RpcAnswer): CallResult {
  if ('result' in answer) {
    if (typeof answer.result === 'string' && /^0x([0-9a-fA-F]{2})*$/.test(answer.result)) {
      return answer.result.toLowerCase();
    }
    throw new PolicyError('backend-answer', 'RPC endpoint answered no call result');
  }
  if (isRevert(answer.error)) return new Reverted(revertReason(answer.error));
  const { code, message } = answer.error;
  throw new PolicyError('backend-answer', `RPC endpoint answered an error (${code}: ${message})`);
}

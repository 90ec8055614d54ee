import { PolicyError } from '../../errors.ts';
import { type Block, blockCall, blockFromAnswer } from '../view/block.ts';
import type { RpcAnswer, RpcCall, RpcEndpoint } from './rpc-endpoint.ts';

/** What a contract call gave: return data as lower-case 0x hex, or null when it reverted. */
export type CallResult = string | null;

/** JSON-RPC code of a reverted call (geth, anvil and others). */
const REVERTED = 3;
/** Codes of nodes that do not know the `{blockHash}` form of EIP-1898. */
const NOT_UNDERSTOOD = new Set([-32602, -32600]);

/** Endpoints that want block numbers; the block's hash is then checked in the same batch. */
const wantsNumbers = new WeakSet<RpcEndpoint>();

/** One call, before it is pinned: its first parameter. */
export type CallObject = { readonly to?: string; readonly data: string; readonly gas?: string };

/**
 * Execute calls at exactly this block, together with what others ask of the endpoint in the same tick.
 * @throws PolicyError `backend-…`
 */
export async function callsAt(
  endpoint: RpcEndpoint,
  block: Block,
  objects: readonly CallObject[],
): Promise<RpcAnswer[]> {
  const calls = (at: unknown): RpcCall[] =>
    objects.map((object) => ({ method: 'eth_call', params: [object, at] }));
  if (!wantsNumbers.has(endpoint)) {
    const answers = await endpoint.gather(calls({ blockHash: block.hash }));
    if (!answers.every(notUnderstood)) return answers;
    wantsNumbers.add(endpoint);
  }
  const number = `0x${block.number.toString(16)}`;
  // One exchange: what is between two of them may be a reorganisation.
  const answers = await endpoint.batch([...calls(number), blockCall(block.number)]);
  if (blockFromAnswer(answers.pop()).hash !== block.hash) {
    throw new PolicyError('backend-answer', 'RPC endpoint left the agreed block: the chain reorganised');
  }
  return answers;
}

/** Whether the node does not take a block's hash where a block is meant. */
export function notUnderstood(answer: RpcAnswer): boolean {
  return 'error' in answer && NOT_UNDERSTOOD.has(answer.error.code);
}

/** @throws PolicyError `backend-answer` for an error of the node, which is no answer of the contract */
export function callResult(answer: RpcAnswer): CallResult {
  if ('result' in answer) {
    if (typeof answer.result === 'string' && /^0x([0-9a-fA-F]{2})*$/.test(answer.result)) {
      return answer.result.toLowerCase();
    }
    throw new PolicyError('backend-answer', 'RPC endpoint answered no call result');
  }
  const { code, message } = answer.error;
  if (code === REVERTED || /\brevert/i.test(message)) return null;
  throw new PolicyError('backend-answer', `RPC endpoint answered an error (${code}: ${message})`);
}

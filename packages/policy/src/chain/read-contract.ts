import { PolicyError } from '../errors.ts';
import { type Block, blockCall, blockFromAnswer } from './block.ts';
import { agreeing, collectVotes, noQuorum } from './quorum.ts';
import type { RpcAnswer, RpcCall, RpcEndpoint } from './rpc-endpoint.ts';

/** What a contract call gave: return data as lower-case 0x hex, or null when it reverted. */
export type CallResult = string | null;

/** JSON-RPC code of a reverted call (geth, anvil and others). */
const REVERTED = 3;
/** Codes of nodes that do not know the `{blockHash}` form of EIP-1898. */
const NOT_UNDERSTOOD = new Set([-32602, -32600]);

/** Endpoints that want block numbers; the block's hash is then checked in the same batch. */
const wantsNumbers = new WeakSet<RpcEndpoint>();

/**
 * Call one contract several times at one block and return what at least `quorum` endpoints answer alike.
 * @throws PolicyError `chain-no-quorum`, or the only endpoint's own error
 */
export async function readContract(
  endpoints: readonly RpcEndpoint[],
  quorum: number,
  block: Block,
  contract: string,
  calls: readonly string[],
): Promise<readonly CallResult[]> {
  const votes = await collectVotes(endpoints, quorum, (endpoint) => callAt(endpoint, block, contract, calls));
  const same = agreeing(votes, quorum, (results) => JSON.stringify(results));
  if (!same?.[0]) throw noQuorum();
  return same[0].value;
}

async function callAt(
  endpoint: RpcEndpoint,
  block: Block,
  contract: string,
  calls: readonly string[],
): Promise<readonly CallResult[]> {
  const call = (data: string, at: unknown): RpcCall => ({
    method: 'eth_call',
    params: [{ to: contract, data }, at],
  });
  if (!wantsNumbers.has(endpoint)) {
    const answers = await endpoint.batch(calls.map((data) => call(data, { blockHash: block.hash })));
    if (!answers.every(notUnderstood)) return answers.map(callResult);
    wantsNumbers.add(endpoint);
  }
  const number = `0x${block.number.toString(16)}`;
  const answers = await endpoint.batch([...calls.map((data) => call(data, number)), blockCall(block.number)]);
  if (blockFromAnswer(answers.pop()).hash !== block.hash) {
    throw new PolicyError('backend-answer', 'RPC endpoint left the agreed block: the chain reorganised');
  }
  return answers.map(callResult);
}

function notUnderstood(answer: RpcAnswer): boolean {
  return 'error' in answer && NOT_UNDERSTOOD.has(answer.error.code);
}

function callResult(answer: RpcAnswer): CallResult {
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

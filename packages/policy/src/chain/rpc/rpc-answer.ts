import { PolicyError } from '../../errors.ts';
import { publicText } from '../../public-text.ts';
import { isRevert, type RpcError } from './revert.ts';

/** One JSON-RPC call. */
export type RpcCall = { readonly method: string; readonly params: readonly unknown[] };

/** Its answer: a result, or the error the node gave. */
export type RpcAnswer = { readonly result: unknown } | { readonly error: RpcError };

/**
 * Reads one JSON-RPC answer. `"error": null` beside a result is no error: some nodes always write both members.
 * @throws PolicyError `backend-answer` for what is neither, or both
 */
export function rpcAnswer(item: unknown): RpcAnswer {
  if (typeof item !== 'object' || item === null) throw badAnswer('not a JSON-RPC answer');
  const { result, error } = item as { result?: unknown; error?: unknown };
  if (error === undefined || error === null) {
    if (result === undefined) throw badAnswer('neither result nor error');
    return { result };
  }
  if (result !== undefined && result !== null) throw badAnswer('both a result and an error');
  return { error: rpcError(error) };
}

/** Nodes and the gateways before them leave members out, and write codes as text. */
function rpcError(error: unknown): RpcError {
  if (typeof error === 'string') return { code: 0, message: publicText(error) };
  if (typeof error !== 'object' || error === null) throw badAnswer('not a JSON-RPC answer');
  const { code, message, data } = error as { code?: unknown; message?: unknown; data?: unknown };
  const number = typeof code === 'string' && /^-?\d{1,9}$/.test(code) ? Number(code) : code;
  return {
    code: typeof number === 'number' ? number : 0,
    message: typeof message === 'string' ? publicText(message) : 'no message',
    ...(data === undefined || data === null ? {} : { data }),
  };
}

/**
 * Puts the answers to a batch into the order of its calls, whose ids are their positions.
 * @returns undefined for anything but one well-formed answer to each call: the node does not take batches
 */
export function batchAnswers(answer: unknown, count: number): RpcAnswer[] | undefined {
  if (!Array.isArray(answer) || answer.length !== count) return undefined;
  const byId = new Map<number, RpcAnswer>();
  for (const item of answer as unknown[]) {
    const id = idOf(item);
    if (id === undefined || id >= count) return undefined;
    try {
      byId.set(id, rpcAnswer(item));
    } catch (error) {
      if (error instanceof PolicyError) return undefined;
      throw error;
    }
  }
  if (byId.size !== count) return undefined;
  const answers = Array.from({ length: count }, (_, id) => byId.get(id)!);
  return answers.every(speaksOfBatches) ? undefined : answers;
}

function idOf(item: unknown): number | undefined {
  const id = typeof item === 'object' && item !== null ? (item as { id?: unknown }).id : undefined;
  if (typeof id === 'string' && /^\d{1,4}$/.test(id)) return Number(id);
  return Number.isInteger(id) && (id as number) >= 0 ? (id as number) : undefined;
}

function speaksOfBatches(answer: RpcAnswer): boolean {
  return 'error' in answer && /\bbatch/i.test(answer.error.message) && !isRevert(answer.error);
}

/** Limit exceeded (EIP-1474), and the status of HTTP that gateways use as a code. */
const LIMITED = new Set([-32_005, 429]);
const LIMITED_TEXT =
  /rate.?limit|too many requests|throttl|(limit|quota|capacity) (was |is |has been )?(exceeded|reached)|exceeded .*(capacity|quota|rate|limit)/i;

/** The same codes may say that one answer would be too large, which a moment changes nothing about. */
const TOO_MUCH_TEXT = /returned more than|too many (results|logs)|block range|response size/i;

/** Whether the node would answer a moment later: it counts calls. */
export function isLimited(answer: RpcAnswer | undefined): boolean {
  if (!answer || !('error' in answer) || isRevert(answer.error)) return false;
  if (TOO_MUCH_TEXT.test(answer.error.message)) return false;
  return LIMITED.has(answer.error.code) || LIMITED_TEXT.test(answer.error.message);
}

export function badAnswer(what: string): PolicyError {
  return new PolicyError('backend-answer', `RPC endpoint answered wrongly: ${what}`);
}

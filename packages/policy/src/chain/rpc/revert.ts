/** How nodes say that a contract call ended without a result (execution-apis, geth, Nethermind, Besu, Hardhat, Ganache). */
import { fromHex } from '@dstack-cloud/encoding';
import { publicText } from '../../public-text.ts';

/** What a node says instead of a result; `data` is as it came. */
export type RpcError = { readonly code: number; readonly message: string; readonly data?: unknown };

/** Execution error of geth and of those that follow it. */
const REVERTED = 3;
/** Execution error of Nethermind and OpenEthereum, also when the node gave up, which says nothing about the contract. */
const VM_ERROR = -32_015;
const GAVE_UP = /time(d)?.?out|cancel|abort/i;
const EXECUTION_TEXT =
  /\brevert(ed)?\b|\bout of gas\b|\b(invalid|bad) (opcode|instruction|jump)|\bstack (under|over)flow\b/i;
/** `Error(string)` of Solidity. */
const ERROR_SELECTOR = '08c379a0';
const PANIC_SELECTOR = '4e487b71';
/** Members under which nodes nest what the contract returned. */
const NESTED = ['data', 'result', 'return', 'output', 'originalError', 'error', 'cause'];
const TEXTS = ['message', 'error', 'reason'];
const MAX_DEPTH = 4;
/** Longest data that is looked at, and words of it, in characters. */
const MAX_DATA = 32_768;
const MAX_WORDS = 1_024;

/** Whether the contract itself ended the call, so that asking again, or somebody else, gives the same. */
export function isRevert({ code, message, data }: RpcError): boolean {
  if (code === REVERTED) return true;
  const { returned, texts } = look(data);
  const words = [message, ...texts];
  if (returned !== undefined || words.some((text) => EXECUTION_TEXT.test(text))) return true;
  return code === VM_ERROR && !words.some((text) => GAVE_UP.test(text));
}

/** What the contract said about it, fit to show; empty when nothing was said. */
export function revertReason({ message, data }: RpcError): string {
  const { returned, texts } = look(data);
  const decoded = returned === undefined ? undefined : decodeReason(returned);
  if (decoded !== undefined) return publicText(decoded);
  for (const text of [message, ...texts]) {
    const [, quoted, plain] =
      /reverted with reason string '(.*)'|\brevert(?:ed)?:? (?!0x)(.+)/is.exec(text) ?? [];
    const reason = quoted ?? plain;
    if (reason !== undefined) return publicText(reason.trim());
  }
  return '';
}

type Found = { returned: string | undefined; readonly texts: string[] };

/** Return data (0x hex) and words in the `data` of an error, however nodes wrap them. */
function look(data: unknown, found: Found = { returned: undefined, texts: [] }, depth = 0): Found {
  if (typeof data === 'string') {
    if (data.length > MAX_DATA) return found;
    const hex = /^(?:reverted )?0x((?:[0-9a-f]{2})*)$/i.exec(data.trim())?.[1];
    if (hex === undefined) found.texts.push(data.slice(0, MAX_WORDS));
    // A selector and whole words, or nothing at all: what contracts return. Hashes and addresses are neither.
    else if (hex.length === 0 || hex.length % 64 === 8) found.returned ??= hex.toLowerCase();
    return found;
  }
  if (typeof data !== 'object' || data === null || Array.isArray(data) || depth >= MAX_DEPTH) return found;
  for (const [name, value] of Object.entries(data).slice(0, 32)) {
    if (typeof value === 'string' && TEXTS.includes(name)) found.texts.push(value.slice(0, MAX_WORDS));
    // Ganache names the details after the transaction's hash.
    else if (NESTED.includes(name) || /^0x[0-9a-f]{64}$/i.test(name)) look(value, found, depth + 1);
  }
  return found;
}

/** Text of `Error(string)`, number of `Panic(uint256)`; undefined for other data. */
function decodeReason(hex: string): string | undefined {
  if (hex.startsWith(PANIC_SELECTOR) && hex.length === 8 + 64) {
    return `panic 0x${BigInt(`0x${hex.slice(8)}`).toString(16)}`;
  }
  if (!hex.startsWith(ERROR_SELECTOR) || hex.slice(8, 8 + 64) !== '20'.padStart(64, '0')) return undefined;
  const length = Number.parseInt(hex.slice(8 + 64, 8 + 128), 16);
  const text = hex.slice(8 + 128, 8 + 128 + length * 2);
  return text.length === length * 2 ? new TextDecoder().decode(fromHex(text)) : undefined;
}

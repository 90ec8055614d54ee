import type { BootInfo } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import type { BootKind } from '../../policy.ts';
import { publicText } from '../../public-text.ts';

/** Function selectors of DstackKms. */
const selector = {
  app: '1e079198', // isAppAllowed
  kms: 'e067ec9d', // isKmsAllowed
  gatewayAppId: '95f51931',
  appImplementation: '25a992da',
  supportsInterface: '01ffc9a7',
  policyDelaySince: '9fff4602',
} as const;

/** Words of the boot information tuple before its dynamic parts. */
const HEAD_BYTES = 9 * 32;
const WORD = 64;
/** Longest answer of a contract that is looked at, in bytes. */
const MAX_RETURN_BYTES = 16_384;

/** Call data of `isAppAllowed` or `isKmsAllowed`, 0x hex. */
export function encodeDecisionCall(kind: BootKind, info: BootInfo): string {
  const status = encodeText(info.tcbStatus);
  const advisories = encodeTexts(info.advisoryIds);
  const tuple = [
    left(info.appId),
    left(info.composeHash),
    left(info.instanceId),
    left(info.deviceId),
    left(info.mrAggregated),
    left(info.mrSystem),
    left(info.osImageHash),
    number(HEAD_BYTES),
    number(HEAD_BYTES + status.length / 2),
    status,
    advisories,
  ];
  return `0x${selector[kind]}${number(32)}${tuple.join('')}`;
}

/** Call data of a function without arguments, 0x hex. */
export function encodeGetter(name: 'gatewayAppId' | 'appImplementation'): string {
  return `0x${selector[name]}`;
}

/** Call data of `supportsInterface(IAppAuth)`, which every policy contract answers with true. */
export function encodeIsPolicy(): string {
  return `0x${selector.supportsInterface}${selector.app.padEnd(WORD, '0')}`;
}

/** Call data of `policyDelaySince`. */
export function encodePolicyDelaySince(seconds: number): string {
  return `0x${selector.policyDelaySince}${number(seconds)}`;
}

/** Read one word; undefined for anything else. */
export function decodeWord(answer: string | undefined): bigint | undefined {
  return answer !== undefined && /^0x[0-9a-f]{64}$/i.test(answer) ? BigInt(answer) : undefined;
}

/** Read `(bool, string)`; undefined for anything that is not exactly that. */
export function decodeDecision(answer: string): { allowed: boolean; reason: string } | undefined {
  const allowed = decodeBoolean(answer);
  const reason = decodeTextAt(answer, 1);
  return allowed === undefined || reason === undefined ? undefined : { allowed, reason: publicText(reason) };
}

/** Read one string result. */
export function decodeText(answer: string): string | undefined {
  return decodeTextAt(answer, 0);
}

/** Read one address result, checksum-free lower-case 0x hex. */
export function decodeAddress(answer: string): string | undefined {
  const match = /^0x0{24}([0-9a-f]{40})$/i.exec(answer);
  return match ? `0x${match[1]?.toLowerCase()}` : undefined;
}

/** Read the bool in the first word; a word that is neither 0 nor 1 is no bool. */
export function decodeBoolean(answer: string): boolean | undefined {
  const word = wordAt(answer, 0);
  return word === 0 || word === 1 ? word === 1 : undefined;
}

function decodeTextAt(answer: string, index: number): string | undefined {
  const offset = wordAt(answer, index);
  if (offset === undefined || offset % 32 !== 0) return undefined;
  const length = wordAt(answer, offset / 32);
  if (length === undefined) return undefined;
  const start = 2 + offset * 2 + WORD;
  const hex = answer.slice(start, start + length * 2);
  if (hex.length !== length * 2) return undefined;
  return new TextDecoder().decode(fromHex(hex));
}

/** A word as a small number, undefined if it is absent or larger than any offset we accept. */
function wordAt(answer: string, index: number): number | undefined {
  if (answer.length > 2 + MAX_RETURN_BYTES * 2) return undefined;
  const word = answer.slice(2 + index * WORD, 2 + (index + 1) * WORD);
  if (!/^[0-9a-f]{64}$/i.test(word) || !/^0{56}/.test(word)) return undefined;
  const value = Number.parseInt(word, 16);
  return value <= MAX_RETURN_BYTES ? value : undefined;
}

const left = (bytes: Uint8Array): string => toHex(bytes).padStart(WORD, '0');
const number = (value: number): string => value.toString(16).padStart(WORD, '0');

/** Length, then the text padded to whole words. */
function encodeText(text: string): string {
  const hex = toHex(utf8(text));
  return number(hex.length / 2) + hex.padEnd(Math.ceil(hex.length / WORD) * WORD, '0');
}

/** Count, offsets from behind the count, then the texts. */
function encodeTexts(texts: readonly string[]): string {
  const encoded = texts.map(encodeText);
  let offset = texts.length * 32;
  const offsets = encoded.map((text) => {
    const at = offset;
    offset += text.length / 2;
    return number(at);
  });
  return number(texts.length) + offsets.join('') + encoded.join('');
}

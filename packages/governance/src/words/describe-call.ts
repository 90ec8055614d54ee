import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import { type Abi, type Address, decodeFunctionData, type Hex, size } from 'viem';
import { unpackBatch } from '../safe/multi-send.ts';
import { multiSendAbi, safeAbi } from '../safe/safe-abi.ts';
import type { Call } from '../timelock/operation.ts';
import { timelockAbi } from '../timelock/timelock-abi.ts';
import type { ContractKind, KnownContracts } from './known-contracts.ts';
import {
  appSentences,
  type Effect,
  kmsSentences,
  type Sentence,
  safeSentences,
  timelockSentences,
} from './sentences.ts';
import { isUnprotected } from './unprotected.ts';

/** A call as people read it, decoded from the bytes that would be sent. */
export type CallInWords = {
  /** One sentence without a full stop. */
  readonly text: string;
  readonly effect: Effect;
  readonly target: Address;
  /** Undefined for a target outside the domain. */
  readonly targetKind: ContractKind | undefined;
  readonly functionName: string | undefined;
  readonly args: readonly unknown[];
  /** What a signer must not overlook. */
  readonly warnings: readonly string[];
  /** Calls that it makes in turn. */
  readonly inner: readonly CallInWords[];
};

/** Calls inside calls: deeper ones are shown as they are. */
const MAX_DEPTH = 6;
const MAX_INNER = 256;

const languages: Readonly<Record<ContractKind, { abi: Abi; sentences: Readonly<Record<string, Sentence>> }>> =
  {
    kms: { abi: dstackKmsAbi as Abi, sentences: kmsSentences },
    app: { abi: dstackAppAbi as Abi, sentences: appSentences },
    timelock: { abi: timelockAbi as Abi, sentences: timelockSentences },
    safe: { abi: safeAbi as Abi, sentences: safeSentences },
    'multi-send': { abi: multiSendAbi as Abi, sentences: {} },
  };

/**
 * @param operation 1 is a delegatecall, which may change whoever makes it
 * @returns words; never throws for what others wrote
 */
export function describeCall(
  call: Call & { readonly operation?: 0 | 1 },
  known: KnownContracts,
  depth = 0,
): CallInWords {
  const { to, value, data, operation = 0 } = call;
  const contract = known.get(to.toLowerCase());
  const warnings: string[] = [];
  if (operation === 1 && contract?.kind !== 'multi-send') {
    warnings.push(`A delegatecall to ${to} may do anything to the Safe, such as replace its signers`);
  }
  if (value > 0n) warnings.push(`It sends ${value} wei`);
  const base = { target: to, targetKind: contract?.kind, functionName: undefined, args: [], inner: [] };
  if (contract === undefined) {
    if (value === 0n && size(data) === 0)
      return { ...base, text: `nothing at ${to}`, effect: 'info', warnings };
    warnings.push(`${to} is no contract of this domain: what the call does is unknown`);
    return { ...base, text: `call ${to} with ${data.slice(0, 10)}…`, effect: 'unknown', warnings };
  }
  if (size(data) === 0) return { ...base, text: `nothing on ${contract.name}`, effect: 'info', warnings };
  const { abi, sentences } = languages[contract.kind];
  const decoded = decode(abi, data);
  if (decoded === undefined) {
    warnings.push(`${contract.name} has no function that this program knows by ${data.slice(0, 10)}`);
    return { ...base, text: `an unknown call to ${contract.name}`, effect: 'unknown', warnings };
  }
  const { functionName, args } = decoded;
  const calls = innerCalls(contract.kind, to, functionName, args);
  if (calls.length > 0 && depth >= MAX_DEPTH) warnings.push('It has more calls inside than are shown');
  const inner =
    depth >= MAX_DEPTH ? [] : calls.slice(0, MAX_INNER).map((one) => describeCall(one, known, depth + 1));
  if (calls.length > MAX_INNER) warnings.push(`It has ${calls.length} calls inside: ${MAX_INNER} are shown`);
  const sentence = Object.hasOwn(sentences, functionName) ? sentences[functionName] : undefined;
  const text = sentence?.text(args) ?? fallback(contract.kind, functionName, inner);
  return {
    ...base,
    ...{ functionName, args, inner },
    effect: sentence === undefined ? worst(inner) : effectOf(sentence, args, inner),
    text: `${text}, on ${contract.name}`,
    warnings: [...warnings, ...warningsOf(contract.kind, functionName, args, known)],
  };
}

/** Sentence and all inner ones, one line each, indented by depth. */
export function callLines({ text, warnings, inner }: CallInWords, indent = ''): string[] {
  return [
    `${indent}${text}`,
    ...warnings.map((warning) => `${indent}  Warning: ${warning}`),
    ...inner.flatMap((one) => callLines(one, `${indent}  `)),
  ];
}

/** The calls that change something in the end: those of batches and schedules rather than these themselves. */
export function leafCalls(call: CallInWords): CallInWords[] {
  return call.inner.length === 0 ? [call] : call.inner.flatMap(leafCalls);
}

function decode(abi: Abi, data: Hex): { functionName: string; args: readonly unknown[] } | undefined {
  try {
    const { functionName, args = [] } = decodeFunctionData({ abi, data });
    return { functionName, args };
  } catch {
    return undefined;
  }
}

function innerCalls(
  kind: ContractKind,
  target: Address,
  functionName: string,
  args: readonly unknown[],
): (Call & { operation?: 0 | 1 })[] {
  const itself = (data: Hex): Call => ({ to: target, value: 0n, data });
  if (functionName === 'multicall') return (args[0] as Hex[]).map(itself);
  if (functionName === 'announce') return [itself(args[0] as Hex)];
  if (functionName === 'upgradeToAndCall') return args[1] === '0x' ? [] : [itself(args[1] as Hex)];
  if (functionName === 'schedule' || functionName === 'execute') {
    return [{ to: args[0] as Address, value: args[1] as bigint, data: args[2] as Hex }];
  }
  if (functionName === 'scheduleBatch' || functionName === 'executeBatch') {
    const [targets, values, payloads] = args as [Address[], bigint[], Hex[]];
    return targets.flatMap((to, index) => {
      const [value, data] = [values[index], payloads[index]];
      return value === undefined || data === undefined ? [] : [{ to, value, data }];
    });
  }
  if (kind === 'safe' && functionName === 'execTransaction') {
    const [to, value, data, operation] = args as [Address, bigint, Hex, number];
    return [{ to, value, data, operation: operation === 1 ? 1 : 0 }];
  }
  if (kind !== 'multi-send') return [];
  try {
    return unpackBatch(args[0] as Hex);
  } catch {
    return [];
  }
}

function fallback(kind: ContractKind, functionName: string, inner: readonly CallInWords[]): string {
  if (kind === 'multi-send' || functionName === 'multicall') return `${inner.length} calls, all or none`;
  return `call ${functionName}`;
}

const order: readonly Effect[] = ['info', 'steps', 'removes', 'adds', 'code', 'powers', 'unknown'];

/** The gravest effect of several. */
function worst(calls: readonly CallInWords[]): Effect {
  if (calls.length === 0) return 'unknown';
  return calls.map(({ effect }) => effect).reduce((a, b) => (order.indexOf(a) > order.indexOf(b) ? a : b));
}

function effectOf({ effect }: Sentence, args: readonly unknown[], inner: readonly CallInWords[]): Effect {
  const own = typeof effect === 'function' ? effect(args) : effect;
  return own === 'steps' && inner.length > 0 ? worst(inner) : own;
}

function warningsOf(
  kind: ContractKind,
  functionName: string,
  args: readonly unknown[],
  known: KnownContracts,
): string[] {
  const [first, second] = args;
  const ours = (address: unknown): boolean => known.has(String(address).toLowerCase());
  if (/^(add|replace)/.test(functionName) && args.some((one) => isUnprotected(String(one)))) {
    return ['It allows a system without protection (a debug enclave, no device at all, or zero)'];
  }
  if (['transferOwnership', 'setAdmin', 'startOwnershipTransfer'].includes(functionName) && !ours(first)) {
    return [`${first} is neither the Timelock nor the Safe of this domain`];
  }
  if (functionName === 'setAllowAnyDevice' && first === true) return ['Any machine may then run the app'];
  if (
    kind === 'timelock' &&
    (functionName === 'grantRole' || functionName === 'revokeRole') &&
    !ours(second)
  ) {
    return [`${second} is no contract of this domain`];
  }
  if (kind === 'safe' && functionName === 'enableModule') {
    return ['A module acts for the Safe without any signature'];
  }
  if (kind === 'safe' && functionName === 'setGuard' && !/^0x0{40}$/.test(String(first))) {
    return ['A guard can make the Safe unable to act'];
  }
  return [];
}

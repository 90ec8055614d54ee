import {
  type Abi,
  BaseError,
  ContractFunctionRevertedError,
  ContractFunctionZeroDataError,
  HttpRequestError,
  parseAbi,
  TimeoutError,
} from 'viem';
import { decodeErrorResult } from 'viem/utils';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { ContractsError } from '../errors.ts';

const timelockErrors = parseAbi([
  'error TimelockInsufficientDelay(uint256 delay, uint256 minDelay)',
  'error TimelockInvalidOperationLength(uint256 targets, uint256 payloads, uint256 values)',
  'error TimelockUnexpectedOperationState(bytes32 id, bytes32 expectedStates)',
  'error TimelockUnexecutedPredecessor(bytes32 predecessorId)',
  'error TimelockUnauthorizedCaller(address caller)',
  'error AccessControlUnauthorizedAccount(address account, bytes32 neededRole)',
  'error OperationExpired(bytes32 id, uint256 expiredAt)',
]);
const known = [...dstackKmsAbi, ...dstackAppAbi, ...timelockErrors] as Abi;

type Values = readonly unknown[];

/** In the words of the documentation, which are those of older contracts, and what to do. */
const words: Readonly<Record<string, (values: Values) => string>> = {
  OwnableUnauthorizedAccount: ([caller]) => `caller is not the owner (${caller})`,
  NotOwnerOrGuardian: ([caller]) => `caller is neither the owner nor a guardian (${caller})`,
  OwnableInvalidOwner: ([owner]) => `${owner} cannot be an owner`,
  RenounceDisabled: () => 'ownership cannot be given up: the policy could never be corrected again',
  NotAnnounced: ([, delay]) =>
    `it was not public for the policy delay of ${delay} s. Announce it with --announce and repeat it after that time, or schedule it in the DstackTimelock that owns the contract`,
  PolicyDelayTooLong: ([delay, longest]) => `a delay of ${delay} s is too long: at most ${longest} s`,
  InvalidMeasurement: () => 'zero is no measurement',
  ComposeHashNotAllowed: ([hash]) => `compose hash ${hash} is not allowed now, so it cannot be replaced`,
  InvalidInitialization: () => 'the contract is set up already',
  TimelockInsufficientDelay: ([delay, least]) => `insufficient delay: ${delay} s, at least ${least} s`,
  TimelockUnexpectedOperationState: ([, states]) =>
    BigInt(String(states)) === 1n ? 'operation already scheduled' : 'operation is not ready',
  TimelockUnexecutedPredecessor: () => 'operation has to wait for another one that is not executed',
  AccessControlUnauthorizedAccount: ([caller]) => `${caller} lacks the role for this`,
  OperationExpired: ([, at]) => `operation expired at ${at}: cancel it and schedule it again`,
};

/**
 * A refused call in words. Errors of viem are never a cause here: their messages have the URL of the endpoint, which may
 * hold a key, and the causes of an error are shown.
 */
export function explainRevert(functionName: string, error: unknown): ContractsError {
  const [code, what] = isUnanswered(error)
    ? (['chain-unreachable', 'cannot be asked'] as const)
    : ([isNotAnnounced(error) ? 'call-not-announced' : 'call-reverted', 'is refused'] as const);
  return new ContractsError(code, `${functionName} ${what}: ${reasonOf(error)}`);
}

/** An error of viem in words, without its URL; anything else as it is. */
export function explainFailure(error: unknown): unknown {
  if (!(error instanceof BaseError)) return error;
  const [code, what] = isUnanswered(error)
    ? (['chain-unreachable', 'The chain does not answer'] as const)
    : (['call-reverted', 'The chain refuses'] as const);
  return new ContractsError(code, `${what}: ${reasonOf(error)}`);
}

/** Did the contract itself refuse, or does it lack the function? */
export function isRevert(error: unknown): boolean {
  if (!(error instanceof BaseError) || isUnanswered(error)) return false;
  const found = error.walk(
    (one) => one instanceof ContractFunctionRevertedError || one instanceof ContractFunctionZeroDataError,
  );
  // Some nodes report a revert without data by a general code.
  return found !== null || /\brevert/i.test(error.details);
}

/** Is the call right, and only too early? */
function isNotAnnounced(error: unknown): boolean {
  if (!(error instanceof BaseError)) return false;
  const reverted = error.walk((one) => one instanceof ContractFunctionRevertedError);
  return reverted instanceof ContractFunctionRevertedError && reverted.data?.errorName === 'NotAnnounced';
}

function isUnanswered(error: unknown): boolean {
  if (!(error instanceof BaseError)) return false;
  return error.walk((one) => one instanceof HttpRequestError || one instanceof TimeoutError) !== null;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof BaseError)) return error instanceof Error ? error.message : String(error);
  const reverted = error.walk((one) => one instanceof ContractFunctionRevertedError);
  if (reverted instanceof ContractFunctionRevertedError) {
    const { data, reason, raw } = reverted;
    if (data?.errorName !== undefined && data.errorName !== 'Error')
      return inWords(data.errorName, data.args ?? []);
    if (reason !== undefined) return reason;
    const decoded = raw === undefined ? undefined : decodeRevert(raw);
    if (decoded !== undefined) return decoded;
  }
  const raw = revertData(error);
  const decoded = raw === undefined ? undefined : decodeRevert(raw);
  // viem's long messages have the URL of the endpoint.
  return decoded ?? error.shortMessage.split('\n')[0]!;
}

/** The data with which a contract reverted, as the endpoint sent it. */
export function revertData(error: unknown): `0x${string}` | undefined {
  if (!(error instanceof BaseError)) return undefined;
  // It is in the innermost error, and some endpoints wrap it once more.
  const { data } = error.walk() as { data?: unknown };
  const raw = typeof data === 'object' ? (data as { data?: unknown } | null)?.data : data;
  return typeof raw === 'string' ? (raw as `0x${string}`) : undefined;
}

/** What a contract says with the data of its revert, in words; undefined when it is no known error. */
export function decodeRevert(data: `0x${string}`): string | undefined {
  try {
    const { errorName, args } = decodeErrorResult({ abi: known, data });
    return errorName === 'Error' ? String(args?.[0]) : inWords(errorName, (args ?? []) as Values);
  } catch {
    return undefined;
  }
}

function inWords(name: string, values: Values): string {
  return words[name]?.(values) ?? `${name}(${values.map(String).join(', ')})`;
}

/** Which calls tell that nothing has changed in a contract with `policyEpoch`. */
import { toHex } from '@dstack-cloud/encoding';
import type { DecisionRequest } from '../decision-reader.ts';
import type { ContractRead, ReadAnswer } from '../multicall/multicall-code.ts';

/** For a getter behind a proxy, with room for a beacon. */
const GETTER_GAS = 50_000;
/** For a decision: two proxies, five slots, and an app contract that asks others. */
const DECISION_GAS = 300_000;

const selector = {
  policyEpoch: '0xa921d322',
  implementation: '0x5c60da1b',
  supportsInterface: '0x01ffc9a7',
  osImageNotAfter: '0xe83c939f',
  appNotAfter: '0x34504dbf',
  composeHashNotAfter: '0xcbe428c8',
} as const;
const HAS_EPOCH = `${selector.supportsInterface}${'a921d322'.padEnd(64, '0')}`;
/** No contract may say yes to this one (ERC-165): it tells those that say yes to everything. */
const HAS_ANYTHING = `${selector.supportsInterface}${'ffffffff'.padEnd(64, '0')}`;

/** Collects reads, each once, and finds their answers. */
export class ReadList {
  readonly reads: ContractRead[] = [];
  readonly #positions = new Map<string, number>();

  /** @returns the position of its answer */
  add(target: string, data: string, gas: number = GETTER_GAS): number {
    const key = `${target}/${data}`;
    const known = this.#positions.get(key);
    if (known !== undefined) return known;
    const position = this.reads.push({ target, gas, data }) - 1;
    this.#positions.set(key, position);
    return position;
  }
}

type Answers = readonly ReadAnswer[];

/** Reads a contract's epoch. The answer is undefined for a contract that must not be followed by its epoch. */
export type EpochRead = (answers: Answers) => string | undefined;

/**
 * The epoch of a contract that was found to have one; with it the implementation, since another one may change
 * decisions without counting. Contracts that do not name their implementation are not followed.
 */
export function addEpoch(list: ReadList, contract: string): EpochRead {
  const epoch = list.add(contract, selector.policyEpoch);
  const implementation = list.add(contract, selector.implementation);
  return (answers) => {
    const number = wordOf(answers[epoch]);
    const address = wordOf(answers[implementation]);
    if (number === undefined || number >= 1n << 64n || !address || address >= 1n << 160n) return undefined;
    return `${number}/${address.toString(16)}`;
  };
}

/** The same, and whether the contract says that it counts at all. */
export function addEpochProbe(list: ReadList, contract: string): EpochRead {
  const has = list.add(contract, HAS_EPOCH);
  const hasAnything = list.add(contract, HAS_ANYTHING);
  const epoch = addEpoch(list, contract);
  return (answers) =>
    wordOf(answers[has]) === 1n && wordOf(answers[hasAnything]) === 0n ? epoch(answers) : undefined;
}

/** The decision itself, through DstackKms: true for exactly `(true, "")`. */
export function addDecision(list: ReadList, kms: string, call: string): (answers: Answers) => boolean {
  const decision = list.add(kms, call, DECISION_GAS);
  return (answers) => answers[decision] === ALLOWED;
}

/** Keccak-256 of the words 1, 64, 0. */
const ALLOWED = 'digest:d0d56fb725de6864c5219d41e7cdd2557301a353abf350f06d887582614feb61';

/**
 * The earliest time from which the decision may change by itself, unix seconds; undefined when the contracts do not
 * say, so that only reading the decision tells.
 */
export function addNotAfter(
  list: ReadList,
  kms: string,
  { kind, info }: DecisionRequest,
): (answers: Answers) => number | undefined {
  const word = (bytes: Uint8Array): string => toHex(bytes).padStart(64, '0');
  const positions = [list.add(kms, selector.osImageNotAfter + word(info.osImageHash))];
  if (kind === 'app') {
    positions.push(list.add(kms, selector.appNotAfter + word(info.appId)));
    positions.push(list.add(contractOf(info.appId), selector.composeHashNotAfter + word(info.composeHash)));
  }
  return (answers) => {
    const times = positions.map((position) => wordOf(answers[position]));
    if (times.some((time) => time === undefined)) return undefined;
    // Zero is no expiry.
    return Math.min(...times.map((time) => (time === 0n ? Number.POSITIVE_INFINITY : Number(time))));
  };
}

/** An app id is the address of the app's contract, 0x hex. */
export function contractOf(appId: Uint8Array): string {
  return `0x${toHex(appId)}`;
}

function wordOf(answer: ReadAnswer | undefined): bigint | undefined {
  return answer?.startsWith('word:') ? BigInt(`0x${answer.slice(5)}`) : undefined;
}

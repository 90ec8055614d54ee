import { fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';

/** `multicall.yul`, compiled. */
export const MULTICALL_CODE: string =
  '60b78038038091816000918239808253600190600183019181905b8482106028575b5050500390f35b909192825162ffffff' +
  '8160481c169061ffff8160381c1690601992612710603f82048201015a1060ae5787838594938293602198978b019160601c' +
  '90fa950101933d8690879261100060001983011016608b575b5082538382015201929190601a565b91505082820190808783' +
  '3e8060201460a757902060025b38607c565b50518360a2565b5050505092602156';

/** One read of a contract. */
export type ContractRead = {
  /** 0x hex. */
  readonly target: string;
  /** The contract gets this much and no more. */
  readonly gas: number;
  /** 0x hex, at most 65,535 bytes. */
  readonly data: string;
};

/** `word:` and 32 bytes of hex, `digest:` and the Keccak-256 of a longer answer, null for a call that failed. */
export type ReadAnswer = string | null;

/** Longer return data is of no use to anybody. */
const MAX_RETURN_BYTES = 4_096;
/** Status, then a word. */
const ANSWER_DIGITS = 2 + 64;
const KINDS: Readonly<Record<string, string>> = { '01': 'word:', '02': 'digest:' };

/** Init code of a creation to simulate, 0x hex. */
export function encodeMulticall(reads: readonly ContractRead[]): string {
  const entries = reads.map(({ target, gas, data }) => {
    const length = data.length / 2 - 1;
    return target.slice(2) + digits(gas, 6) + digits(length, 4) + data.slice(2);
  });
  return `0x${MULTICALL_CODE}${entries.join('')}`;
}

/** Bytes of one entry. */
export function entryBytes({ data }: ContractRead): number {
  return 25 + data.length / 2 - 1;
}

/**
 * Split up what the creation returned; reads that it did not come to count as failed.
 * @returns undefined for what no multicall returns
 */
export function decodeMulticall(returned: string, count: number): ReadAnswer[] | undefined {
  if (!/^0x00([0-9a-f]{66})*$/.test(returned) || returned.length > 4 + count * ANSWER_DIGITS)
    return undefined;
  return Array.from({ length: count }, (_, index) => {
    const at = 4 + index * ANSWER_DIGITS;
    const kind = KINDS[returned.slice(at, at + 2)];
    return kind === undefined ? null : kind + returned.slice(at + 2, at + ANSWER_DIGITS);
  });
}

/** What a multicall would have answered for the return data of a plain call, 0x hex. */
export function readAnswer(returned: string): ReadAnswer {
  const bytes = returned.length / 2 - 1;
  if (bytes === 0 || bytes > MAX_RETURN_BYTES) return null;
  if (bytes === 32) return `word:${returned.slice(2)}`;
  return `digest:${toHex(keccak256(fromHex(returned, { prefix: 'allow' })))}`;
}

const digits = (value: number, count: number): string => value.toString(16).padStart(count, '0');

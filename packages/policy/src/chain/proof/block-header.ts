import { equalBytes, fromHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { z } from 'zod';
import { PolicyError } from '../../errors.ts';
import type { Block } from '../rpc/block.ts';
import { encodeRlpList, encodeRlpText } from './rlp.ts';

const quantity = z.string().regex(/^0x(0|[1-9a-f][0-9a-f]{0,63})$/i);
const data = (bytes: number) => z.string().regex(new RegExp(`^0x[0-9a-f]{${bytes * 2}}$`, 'i'));
/** 32 bytes on Ethereum; chains with signatures in it need more. */
const extraData = z.string().regex(/^0x([0-9a-f]{2}){0,1024}$/i);

/** Members of a header in the order of its RLP (yellow paper, section 4.4.3). */
const always = {
  parentHash: data(32),
  sha3Uncles: data(32),
  miner: data(20),
  stateRoot: data(32),
  transactionsRoot: data(32),
  receiptsRoot: data(32),
  logsBloom: data(256),
  difficulty: quantity,
  number: quantity,
  gasLimit: quantity,
  gasUsed: quantity,
  timestamp: quantity,
  extraData,
  mixHash: data(32),
  nonce: data(8),
};
/** What the forks added at its end, in order: EIP-1559, 4895, 4844 (two), 4788, 7685. */
const later = {
  baseFeePerGas: quantity,
  withdrawalsRoot: data(32),
  blobGasUsed: quantity,
  excessBlobGas: quantity,
  parentBeaconBlockRoot: data(32),
  requestsHash: data(32),
};
const headerSchema = z.looseObject({ ...always, ...z.object(later).partial().shape });

/** Members of `eth_getBlockByHash` that are not in the header. */
const beside = ['hash', 'totalDifficulty', 'size', 'uncles', 'transactions', 'withdrawals'];
const quantities = new Set(
  Object.entries({ ...always, ...later }).flatMap(([name, type]) => (type === quantity ? [name] : [])),
);

/** A header that has the hash it should have. */
export type Header = { readonly stateRoot: Uint8Array; readonly timestamp: number };

/**
 * Take the state root from a node's answer to `eth_getBlockByHash`, after its header was encoded again and has the
 * hash that was agreed upon.
 * @throws PolicyError `chain-header`
 */
export function verifiedHeader(answer: unknown, block: Block): Header {
  const parsed = headerSchema.safeParse(answer);
  if (!parsed.success) {
    const at = parsed.error.issues[0]?.path.join('.') ?? '';
    throw badHeader(`${at === '' ? 'it' : at} is missing or malformed`);
  }
  const header = parsed.data;
  const hash = keccak256(encodeHeader(header));
  if (!equalBytes(hash, fromHex(block.hash, { length: 32, prefix: 'allow' }))) {
    throw badHeader(`its hash is not the agreed one${unknownMembers(header)}`);
  }
  // These came from elsewhere, together with the hash.
  if (BigInt(header.number) !== block.number || Number(BigInt(header.timestamp)) !== block.timestamp) {
    throw badHeader('number or time are not those that were agreed upon');
  }
  return {
    stateRoot: fromHex(header.stateRoot, { prefix: 'allow' }),
    timestamp: block.timestamp,
  };
}

function encodeHeader(header: Readonly<Record<string, unknown>>): Uint8Array {
  const names = [...Object.keys(always), ...Object.keys(later)];
  const present = names.filter((name) => header[name] !== undefined);
  if (present.length > 0 && names[present.length - 1] !== present.at(-1)) {
    throw badHeader(`it has ${present.at(-1)}, but not all that comes before`);
  }
  return encodeRlpList(
    present.map((name) => {
      const text = String(header[name]).slice(2);
      return encodeRlpText(fromHex(quantities.has(name) ? minimal(text) : text));
    }),
  );
}

/** Integers are as short as they can be; zero is the empty string. */
function minimal(hex: string): string {
  return hex === '0' ? '' : hex.padStart(Math.ceil(hex.length / 2) * 2, '0');
}

/** A later fork's members explain why the hash differs. */
function unknownMembers(header: Readonly<Record<string, unknown>>): string {
  const known = new Set([...Object.keys(always), ...Object.keys(later), ...beside]);
  const unknown = Object.keys(header).filter((name) => !known.has(name) && /^\w{1,40}$/.test(name));
  return unknown.length === 0
    ? ''
    : `; it has members that this version does not know: ${unknown.slice(0, 8).join(', ')}`;
}

function badHeader(what: string): PolicyError {
  return new PolicyError('chain-header', `Block header cannot be used: ${what}`);
}

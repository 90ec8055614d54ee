import { fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { z } from 'zod';
import { PolicyError } from '../../errors.ts';
import { slotBytes } from '../contracts/slots.ts';
import { readRlp, rlpInteger, rlpItems, rlpText } from './rlp.ts';
import { provenValue } from './trie-proof.ts';

/** More slots than any decision reads. */
const MAX_SLOTS = 512;
const MAX_NODES = 65;
const HASH_BYTES = 32;

const nodes = z.array(z.string().regex(/^0x([0-9a-f]{2}){1,600}$/i)).max(MAX_NODES);
/** The parts of an answer to `eth_getProof` that prove something; what it claims beside them is not looked at. */
const answerSchema = z.object({
  accountProof: nodes,
  storageProof: z.array(z.object({ proof: nodes })).max(MAX_SLOTS),
});

/** An account as it is in the state. */
export type ProvenAccount = {
  /** 0x hex of Keccak-256 of the code; undefined when there is no such account, or it has no code. */
  readonly codeHash: string | undefined;
  /** Undefined for no such account: all its slots are 0. */
  readonly storageRoot: Uint8Array | undefined;
};

/** What an answer to `eth_getProof` proves. */
export type Proven = {
  readonly account: ProvenAccount;
  /** A slot that was never written is 0. */
  readonly values: ReadonlyMap<bigint, bigint>;
};

const NO_CODE = `0x${toHex(keccak256(new Uint8Array()))}`;

/**
 * Learn code hash and storage of one account from an answer to `eth_getProof`.
 * @param stateRoot of a header that was verified
 * @param slots in the order they were asked for
 * @param known the account, if it was proven at the same state root before
 * @throws PolicyError `chain-proof`
 */
export function provenAccount(
  stateRoot: Uint8Array,
  address: string,
  slots: readonly bigint[],
  answer: unknown,
  known?: ProvenAccount,
): Proven {
  const parsed = answerSchema.safeParse(answer);
  if (!parsed.success) throw new PolicyError('chain-proof', 'Proof does not hold: it has no nodes');
  const { accountProof, storageProof } = parsed.data;
  if (storageProof.length !== slots.length) {
    throw new PolicyError('chain-proof', 'Proof does not hold: it is for another number of slots');
  }
  const account = known ?? accountOf(stateRoot, address, accountProof);
  const values = slots.map((slot, index) => {
    const proof = storageProof[index]?.proof ?? [];
    return [slot, account.storageRoot ? slotValue(account.storageRoot, slot, proof) : 0n] as const;
  });
  return { account, values: new Map(values) };
}

function accountOf(stateRoot: Uint8Array, address: string, proof: readonly string[]): ProvenAccount {
  const key = keccak256(fromHex(address, { length: 20, prefix: 'allow' }));
  const account = provenValue(stateRoot, key, proof.map(bytesOf));
  if (!account) return { codeHash: undefined, storageRoot: undefined };
  const [nonce, balance, storageRoot, code, ...more] = rlpItems(readRlp(account), 4);
  if (!nonce || !balance || !storageRoot || !code || more.length > 0) {
    throw new PolicyError('chain-proof', 'Proof does not hold: an account has not four members');
  }
  rlpInteger(nonce);
  rlpInteger(balance);
  const codeHash = `0x${toHex(rlpText(code, HASH_BYTES))}`;
  return {
    codeHash: codeHash === NO_CODE ? undefined : codeHash,
    storageRoot: rlpText(storageRoot, HASH_BYTES),
  };
}

function slotValue(storageRoot: Uint8Array, slot: bigint, proof: readonly string[]): bigint {
  const value = provenValue(storageRoot, keccak256(slotBytes(slot)), proof.map(bytesOf));
  return value ? rlpInteger(readRlp(value)) : 0n;
}

const bytesOf = (hex: string): Uint8Array => fromHex(hex, { prefix: 'allow' });

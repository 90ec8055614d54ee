import { type ByteReader, ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { BANKS, type PcrBank } from './tpm-constants.ts';

const SELECT_BYTES = 3;
const MAX_PCR = 8 * SELECT_BYTES - 1;

/** TPM2B: u16 length, then the bytes. */
export function tpm2b(bytes: Uint8Array): Uint8Array {
  return new ByteWriter().u16be(bytes.length).bytes(bytes).finish();
}

/** The contents of the next TPM2B. */
export function take2b(reader: ByteReader): Uint8Array {
  return reader.take(reader.u16be());
}

/** TPML_PCR_SELECTION with one bank (Part 2 section 10.9.7). */
export function pcrSelection(bank: PcrBank, pcrs: readonly number[]): Uint8Array {
  const bitmap = new Uint8Array(SELECT_BYTES);
  for (const pcr of pcrs) {
    if (!Number.isInteger(pcr) || pcr < 0 || pcr > MAX_PCR) {
      throw new AttestationError('malformed', `There is no PCR ${pcr}`);
    }
    bitmap[pcr >> 3]! |= 1 << (pcr & 7);
  }
  return new ByteWriter().u32be(1).u16be(BANKS[bank].id).u8(SELECT_BYTES).bytes(bitmap).finish();
}

/** The PCRs of a one-bank TPML_PCR_SELECTION, ascending. */
export function readPcrSelection(reader: ByteReader, bank: PcrBank): number[] {
  const count = reader.u32be();
  if (count !== 1 || reader.u16be() !== BANKS[bank].id) {
    throw new AttestationError('device', `The TPM answered for another bank than ${bank}`);
  }
  const bitmap = reader.take(reader.u8());
  const pcrs: number[] = [];
  for (let pcr = 0; pcr < 8 * bitmap.length; pcr++) {
    if ((bitmap[pcr >> 3]! >> (pcr & 7)) & 1) pcrs.push(pcr);
  }
  return pcrs;
}

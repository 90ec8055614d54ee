import { createHash } from 'node:crypto';
import { EncodingError, equalBytes, ScaleReader, ScaleWriter } from '@dstack-cloud/encoding';
import type { PcrReading } from './tpm-pcr.ts';

const MAX_AREA = 512;
const MAX_CREATION = 256;
const MAX_PCRS = 24;
const MAX_APPROVER = 128;
const PCR_BYTES = 32;
const CHECKSUM = 32;
/** Form 1 had no proof of its creation. */
const FORM = 2;

/** A sealed seed as it lies in NV memory; nothing of it is secret, and only the TPM's own part is protected. */
export interface SealedBlob {
  /** TPM2B_PUBLIC and TPM2B_PRIVATE of the sealed object, without their lengths. */
  readonly publicArea: Uint8Array;
  readonly privateArea: Uint8Array;
  /** Who made it: TPMS_CREATION_DATA, and the TPM's ticket for it (TPMT_TK_CREATION). */
  readonly creationData: Uint8Array;
  readonly creationTicket: Uint8Array;
  /** How often the seed was sealed; the newest seal counts. */
  readonly number: number;
  /** The registers that it is sealed to, for whoever has to find out what changed. */
  readonly pcrs: readonly PcrReading[];
  /** SPKI DER of the key that may approve another system; empty for none. */
  readonly approver: Uint8Array;
}

/**
 * The bytes of a seal. The first two fields are those of the original (SCALE: public area, private area); a checksum
 * ends it, so that a write that was cut off is told from a whole one.
 */
export function encodeSealedBlob(blob: SealedBlob): Uint8Array {
  const writer = new ScaleWriter().bytes(blob.publicArea).bytes(blob.privateArea);
  writer.u8(FORM).u32(blob.number).u8(blob.pcrs.length);
  for (const { index, value } of blob.pcrs) writer.u8(index).bytes(value);
  const body = writer.bytes(blob.approver).bytes(blob.creationData).bytes(blob.creationTicket).finish();
  return new Uint8Array(Buffer.concat([body, checksum(body)]));
}

/** The seal at the start of these bytes (an index may be longer than it); undefined when there is no whole one. */
export function parseSealedBlob(stored: Uint8Array): SealedBlob | undefined {
  try {
    const reader = new ScaleReader(stored);
    const publicArea = reader.bytes(MAX_AREA).slice();
    const privateArea = reader.bytes(MAX_AREA).slice();
    if (reader.u8() !== FORM) return undefined;
    const number = reader.u32();
    const count = reader.u8();
    if (count === 0 || count > MAX_PCRS) return undefined;
    const pcrs = Array.from({ length: count }, () => ({
      index: reader.u8(),
      value: reader.bytes(PCR_BYTES).slice(),
    }));
    const approver = reader.bytes(MAX_APPROVER).slice();
    const creationData = reader.bytes(MAX_CREATION).slice();
    const creationTicket = reader.bytes(MAX_CREATION).slice();
    const body = stored.subarray(0, reader.offset);
    const found = stored.subarray(reader.offset, reader.offset + CHECKSUM);
    if (!equalBytes(found, checksum(body))) return undefined;
    if (
      pcrs.some(({ index, value }, at) => value.length !== PCR_BYTES || index <= (pcrs[at - 1]?.index ?? -1))
    )
      return undefined;
    if (publicArea.length === 0 || privateArea.length === 0 || number === 0) return undefined;
    return { publicArea, privateArea, creationData, creationTicket, number, pcrs, approver };
  } catch (error) {
    if (error instanceof EncodingError) return undefined;
    throw error;
  }
}

function checksum(body: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(body).digest());
}

import { ByteReader } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';

/** TPM_ALG_ID of the banks that a quote may name (TCG Algorithm Registry). */
export const TPM_ALGORITHM = { sha1: 0x0004, sha256: 0x000b, sha384: 0x000c, sha512: 0x000d } as const;

const TPM_GENERATED_VALUE = 0xff544347;
const TPM_ST_ATTEST_QUOTE = 0x8018;
const MAX_MESSAGE_BYTES = 4096;
const MAX_SELECTIONS = 16;
/** Bitmaps of more than 32 PCRs do not exist. */
const MAX_SELECT_BYTES = 4;

/** One TPMS_PCR_SELECTION: a bank and its PCRs, ascending. */
interface PcrSelection {
  readonly algorithm: number;
  readonly pcrs: readonly number[];
}

/** TPMS_ATTEST of a quote (TCG TPM 2.0 Part 2 section 10.12.12). Nothing is verified. */
export interface TpmsAttest {
  readonly qualifiedSigner: Uint8Array;
  /** The qualifying data of the request. */
  readonly extraData: Uint8Array;
  /** Milliseconds since the TPM was cleared. */
  readonly clock: bigint;
  readonly resetCount: number;
  readonly restartCount: number;
  readonly safe: boolean;
  readonly firmwareVersion: bigint;
  readonly selections: readonly PcrSelection[];
  readonly pcrDigest: Uint8Array;
}

/**
 * Reads a TPMS_ATTEST, big-endian (docs/protocol/evidence.md section 9).
 * @throws AttestationError `malformed` for a wrong magic, trailing bytes or lengths that lie, `unsupported` for
 * another attestation type than a quote
 */
export function parseTpmsAttest(message: Uint8Array): TpmsAttest {
  if (message.length > MAX_MESSAGE_BYTES) {
    throw new AttestationError('too-large', `TPMS_ATTEST of ${message.length} bytes`);
  }
  return decoding('TPMS_ATTEST', () => {
    const reader = new ByteReader(message);
    readHeader(reader);
    const qualifiedSigner = reader.take(reader.u16be());
    const extraData = reader.take(reader.u16be());
    const clock = reader.u64be();
    const resetCount = reader.u32be();
    const restartCount = reader.u32be();
    const safe = readYesNo(reader);
    const firmwareVersion = reader.u64be();
    const selections = readSelections(reader);
    const pcrDigest = reader.take(reader.u16be());
    reader.finish();
    return {
      qualifiedSigner,
      extraData,
      clock,
      resetCount,
      restartCount,
      safe,
      firmwareVersion,
      selections,
      pcrDigest,
    };
  });
}

function readHeader(reader: ByteReader): void {
  const magic = reader.u32be();
  if (magic !== TPM_GENERATED_VALUE) {
    throw new AttestationError('malformed', 'TPMS_ATTEST was not made by a TPM: wrong magic', {
      expected: 'ff544347',
      found: magic.toString(16).padStart(8, '0'),
    });
  }
  const type = reader.u16be();
  if (type !== TPM_ST_ATTEST_QUOTE) {
    throw new AttestationError('unsupported', 'TPMS_ATTEST is not a quote', {
      expected: '8018',
      found: type.toString(16).padStart(4, '0'),
    });
  }
}

/** TPMI_YES_NO: 0 or 1 (Part 2 section 9.2). */
function readYesNo(reader: ByteReader): boolean {
  const value = reader.u8();
  if (value > 1) throw new AttestationError('malformed', `TPMS_ATTEST has ${value} where 0 or 1 belongs`);
  return value === 1;
}

function readSelections(reader: ByteReader): PcrSelection[] {
  const count = reader.u32be();
  if (count > MAX_SELECTIONS) throw new AttestationError('too-large', `TPMS_ATTEST with ${count} selections`);
  const selections: PcrSelection[] = [];
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16be();
    const size = reader.u8();
    if (size > MAX_SELECT_BYTES) throw new AttestationError('too-large', `PCR bitmap of ${size} bytes`);
    selections.push({ algorithm, pcrs: bitmapPcrs(reader.take(size)) });
  }
  return selections;
}

/** PCR n is bit n % 8 of byte n / 8. */
function bitmapPcrs(bitmap: Uint8Array): number[] {
  const pcrs: number[] = [];
  for (let pcr = 0; pcr < bitmap.length * 8; pcr++) {
    if ((bitmap[pcr >> 3]! >> (pcr & 7)) & 1) pcrs.push(pcr);
  }
  return pcrs;
}

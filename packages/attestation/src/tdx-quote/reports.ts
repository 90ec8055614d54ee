import { ByteReader } from '@dstack-cloud/encoding';

/** TD report 1.0, or 1.5 when the last two fields are there (docs/protocol/evidence.md section 8). */
export interface TdReport {
  /** 16 bytes: [0] module ISVSVN, [1] module major version, [2] SEAM loader. */
  readonly teeTcbSvn: Uint8Array;
  readonly mrSeam: Uint8Array;
  readonly mrSignerSeam: Uint8Array;
  readonly seamAttributes: Uint8Array;
  /** 8 bytes, little endian; bit 0 is DEBUG. */
  readonly tdAttributes: Uint8Array;
  readonly xfam: Uint8Array;
  readonly mrTd: Uint8Array;
  readonly mrConfigId: Uint8Array;
  readonly mrOwner: Uint8Array;
  readonly mrOwnerConfig: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  /** 64 bytes. */
  readonly reportData: Uint8Array;
  readonly teeTcbSvn2?: Uint8Array;
  readonly mrServiceTd?: Uint8Array;
}

/** SGX enclave report, 384 bytes. */
export interface EnclaveReport {
  readonly cpuSvn: Uint8Array;
  /** 4 bytes in memory order. */
  readonly miscSelect: Uint8Array;
  /** 16 bytes; byte 0 bit 1 is DEBUG. */
  readonly attributes: Uint8Array;
  readonly mrEnclave: Uint8Array;
  readonly mrSigner: Uint8Array;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly reportData: Uint8Array;
}

/** Reads a TD report of 584 (1.0) or 648 bytes (1.5). @throws EncodingError */
export function parseTdReport(body: Uint8Array): TdReport {
  const reader = new ByteReader(body);
  const report: TdReport = {
    teeTcbSvn: reader.take(16),
    mrSeam: reader.take(48),
    mrSignerSeam: reader.take(48),
    seamAttributes: reader.take(8),
    tdAttributes: reader.take(8),
    xfam: reader.take(8),
    mrTd: reader.take(48),
    mrConfigId: reader.take(48),
    mrOwner: reader.take(48),
    mrOwnerConfig: reader.take(48),
    rtmrs: [reader.take(48), reader.take(48), reader.take(48), reader.take(48)],
    reportData: reader.take(64),
  };
  if (reader.remaining === 0) return report;
  const extended = { ...report, teeTcbSvn2: reader.take(16), mrServiceTd: reader.take(48) };
  reader.finish();
  return extended;
}

/** Reads an SGX enclave report. @throws EncodingError */
export function parseEnclaveReport(body: Uint8Array): EnclaveReport {
  const reader = new ByteReader(body);
  const cpuSvn = reader.take(16);
  const miscSelect = reader.take(4);
  reader.take(28);
  const attributes = reader.take(16);
  const mrEnclave = reader.take(32);
  reader.take(32);
  const mrSigner = reader.take(32);
  reader.take(96);
  const isvProdId = reader.u16le();
  const isvSvn = reader.u16le();
  reader.take(60);
  const reportData = reader.take(64);
  reader.finish();
  return { cpuSvn, miscSelect, attributes, mrEnclave, mrSigner, isvProdId, isvSvn, reportData };
}

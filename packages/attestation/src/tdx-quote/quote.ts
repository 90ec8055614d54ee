import { ByteReader, equalBytes, fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { type EnclaveReport, parseEnclaveReport, parseTdReport, type TdReport } from './reports.ts';

export type { EnclaveReport, TdReport };

/** How the quote says which PCK certificate it was signed under. */
export type CertificationData =
  | {
      /** 1: plain PPID; 2 and 3: PPID encrypted with RSA of 2048 and 3072 bits. */
      readonly type: 1 | 2 | 3;
      readonly ppid: Uint8Array;
      readonly cpuSvn: Uint8Array;
      readonly pceSvn: number;
      readonly pceId: Uint8Array;
    }
  | { readonly type: 4; readonly leaf: Uint8Array }
  | { readonly type: 5; readonly pem: string }
  | { readonly type: 7; readonly manifest: Uint8Array };

/** An ECDSA quote, parsed; nothing is verified. */
export interface TdxQuote {
  readonly version: 3 | 4 | 5;
  readonly tee: 'tdx' | 'sgx';
  /** First 16 bytes of the user data. */
  readonly qeId: Uint8Array;
  /** The bytes which the quote signature covers. */
  readonly signed: Uint8Array;
  readonly td: TdReport | undefined;
  readonly enclave: EnclaveReport | undefined;
  /** r‖s */
  readonly signature: Uint8Array;
  /** x‖y */
  readonly attestationKey: Uint8Array;
  readonly qeReport: EnclaveReport;
  /** 384 bytes. */
  readonly qeReportBytes: Uint8Array;
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthData: Uint8Array;
  readonly certification: CertificationData;
}

const MAX_QUOTE_BYTES = 128 * 1024;
const ECDSA_P256 = 2;
const TEE_SGX = 0;
const TEE_TDX = 0x81;
const QE_REPORT_CERTIFICATION = 6;
const INTEL_QE_VENDOR = fromHex('939a7233f79c4ca9940a0db3957f0607');
const BODY_SIZES: Readonly<Record<number, { size: number; tee: 'sgx' | 'tdx' }>> = {
  1: { size: 384, tee: 'sgx' },
  2: { size: 584, tee: 'tdx' },
  3: { size: 648, tee: 'tdx' },
};
const ENCRYPTED_PPID_SIZES = { 1: 16, 2: 256, 3: 384 } as const;

/**
 * Reads a quote of version 3 (SGX), 4 or 5 (TDX): layout of Intel's DCAP quote, docs/protocol/evidence.md section 8.
 * Bytes after the authentication data are padding and are not looked at.
 * @throws AttestationError `malformed`, `unsupported`, `too-large`
 */
export function parseTdxQuote(bytes: Uint8Array): TdxQuote {
  if (bytes.length > MAX_QUOTE_BYTES) {
    throw new AttestationError('too-large', `Quote of ${bytes.length} bytes`);
  }
  return decoding('Quote', () => quote(bytes));
}

function quote(bytes: Uint8Array): TdxQuote {
  const reader = new ByteReader(bytes);
  const version = reader.u16le();
  if (version !== 3 && version !== 4 && version !== 5) {
    throw unsupported('Quote version', '3, 4 or 5', `${version}`);
  }
  const keyType = reader.u16le();
  if (keyType !== ECDSA_P256) throw unsupported('Attestation key type', `${ECDSA_P256}`, `${keyType}`);
  const teeType = reader.u32le();
  const wanted = version === 3 ? TEE_SGX : TEE_TDX;
  if (teeType !== wanted) {
    throw unsupported(
      `TEE type of a version ${version} quote`,
      `0x${wanted.toString(16)}`,
      `0x${teeType.toString(16)}`,
    );
  }
  reader.take(4);
  const vendor = reader.take(16);
  if (!equalBytes(vendor, INTEL_QE_VENDOR)) {
    throw unsupported('QE vendor', toHex(INTEL_QE_VENDOR), toHex(vendor));
  }
  const qeId = reader.take(20).subarray(0, 16);
  const tee = teeType === TEE_TDX ? 'tdx' : 'sgx';
  const body = reader.take(bodySize(reader, version, tee));
  const signed = bytes.subarray(0, reader.offset);
  const auth = new ByteReader(reader.take(reader.u32le()));
  return {
    version,
    tee,
    qeId,
    signed,
    td: tee === 'tdx' ? parseTdReport(body) : undefined,
    enclave: tee === 'sgx' ? parseEnclaveReport(body) : undefined,
    ...readAuthentication(auth, version),
  };
}

/** Version 5 declares its body; type, size and TEE must agree. */
function bodySize(reader: ByteReader, version: number, tee: 'tdx' | 'sgx'): number {
  if (version === 3) return 384;
  if (version === 4) return 584;
  const type = reader.u16le();
  const size = reader.u32le();
  const known = BODY_SIZES[type];
  if (known?.size !== size || known.tee !== tee) {
    throw unsupported('Quote body', `a ${tee} body type with its size`, `type ${type}, ${size} bytes`);
  }
  return size;
}

function readAuthentication(auth: ByteReader, version: number) {
  const signature = auth.take(64);
  const attestationKey = auth.take(64);
  if (version === 3) return { signature, attestationKey, ...readQeCertification(auth) };
  const type = auth.u16le();
  if (type !== QE_REPORT_CERTIFICATION) {
    throw unsupported('Certification data type', `${QE_REPORT_CERTIFICATION}`, `${type}`);
  }
  const inner = new ByteReader(auth.take(auth.u32le()));
  auth.finish();
  return { signature, attestationKey, ...readQeCertification(inner) };
}

function readQeCertification(reader: ByteReader) {
  const qeReportBytes = reader.take(384);
  const qeReportSignature = reader.take(64);
  const qeAuthData = reader.take(reader.u16le());
  const type = reader.u16le();
  const data = reader.take(reader.u32le());
  reader.finish();
  const qeReport = parseEnclaveReport(qeReportBytes);
  return {
    qeReport,
    qeReportBytes,
    qeReportSignature,
    qeAuthData,
    certification: readCertification(type, data),
  };
}

function readCertification(type: number, data: Uint8Array): CertificationData {
  if (type === 1 || type === 2 || type === 3) {
    const reader = new ByteReader(data);
    const ppid = reader.take(ENCRYPTED_PPID_SIZES[type]);
    const cpuSvn = reader.take(16);
    const pceSvn = reader.u16le();
    // Type 1 also occurs without it (Intel's own SGX sample).
    const pceId = reader.take(type === 1 && reader.remaining === 0 ? 0 : 2);
    reader.finish();
    return { type, ppid, cpuSvn, pceSvn, pceId };
  }
  if (type === 4) return { type, leaf: data };
  // The chain may end with a NUL.
  if (type === 5) return { type, pem: utf8Text(data.at(-1) === 0 ? data.subarray(0, -1) : data) };
  if (type === 7) return { type, manifest: data };
  throw unsupported('QE certification data type', '1 to 5 or 7', `${type}`);
}

function unsupported(what: string, expected: string, found: string): AttestationError {
  return new AttestationError('unsupported', `${what} is not supported`, { expected, found });
}

import { AttestationError } from '../errors.ts';

/** TD report 1.0, or 1.5 when the last two fields are there (chapter 20 section 2.3). */
export interface TdReport {
  readonly teeTcbSvn: Uint8Array;
  readonly mrSeam: Uint8Array;
  readonly mrSignerSeam: Uint8Array;
  readonly seamAttributes: Uint8Array;
  readonly tdAttributes: Uint8Array;
  readonly xfam: Uint8Array;
  readonly mrTd: Uint8Array;
  readonly mrConfigId: Uint8Array;
  readonly mrOwner: Uint8Array;
  readonly mrOwnerConfig: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  readonly reportData: Uint8Array;
  readonly teeTcbSvn2?: Uint8Array;
  readonly mrServiceTd?: Uint8Array;
}

/** SGX enclave report, 384 bytes. */
export interface EnclaveReport {
  readonly cpuSvn: Uint8Array;
  /** 4 bytes in memory order. */
  readonly miscSelect: Uint8Array;
  readonly attributes: Uint8Array;
  readonly mrEnclave: Uint8Array;
  readonly mrSigner: Uint8Array;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly reportData: Uint8Array;
}

/** How the quote says which PCK certificate it was signed under. */
export type CertificationData =
  | {
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

/** @throws AttestationError `malformed`, `unsupported`, `too-large` */
export function parseTdxQuote(_bytes: Uint8Array): TdxQuote {
  throw new AttestationError('unsupported', 'not available');
}

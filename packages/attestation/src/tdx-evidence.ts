import type { TcbStatus } from './tcb-status.ts';
import type { EnclaveReport, TdReport } from './tdx-quote/reports.ts';

/** One verified quote: what was measured, on which platform, and how that platform is patched. */
export interface TdxEvidence {
  readonly kind: 'tdx';
  readonly quoteVersion: 4 | 5;
  readonly td: TdReport;
  readonly dcap: DcapResult;
}

/** Result of docs/protocol/verification.md section 2.2, for TDX and SGX quotes alike. */
export interface DcapResult {
  readonly tee: 'tdx' | 'sgx';
  readonly simulated: boolean;
  readonly td: TdReport | undefined;
  readonly enclave: EnclaveReport | undefined;
  /** Platform, module and QE merged. */
  readonly status: TcbStatus;
  readonly advisoryIds: readonly string[];
  readonly platformStatus: TcbStatus;
  readonly moduleStatus: TcbStatus | undefined;
  readonly qeStatus: TcbStatus;
  /** 16 bytes. */
  readonly ppid: Uint8Array;
  readonly fmspc: Uint8Array;
  /** The lower of TCB info and QE identity. */
  readonly tcbEvaluationDataNumber: number;
  /** Unix seconds: date of the oldest level that is out of date, else of the platform's. */
  readonly tcbDate: number;
  readonly validFrom: number;
  readonly validUntil: number;
  readonly trustRoot: string;
}

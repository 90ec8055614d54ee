import type { PlatformResult } from '@dstack-cloud/attestation';
import type { AppInfoJson } from '../report.ts';

/** What verifying one piece of evidence brought to light; only given for evidence that is good. */
export interface Findings
  extends Pick<
    PlatformResult,
    'simulated' | 'tcbStatus' | 'advisoryIds' | 'registers' | 'validFrom' | 'validUntil' | 'snp'
  > {
  readonly reportData: Uint8Array | undefined;
  readonly appInfo: AppInfoJson | undefined;
  readonly tcbEvaluationDataNumber: number | undefined;
  /** Unix seconds: date of the platform's TCB level. */
  readonly tcbDate: number | undefined;
}

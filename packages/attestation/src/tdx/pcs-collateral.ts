import type { CollateralSource } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';

export interface PcsOptions {
  /** Base URL of Intel's PCS or a PCCS; a trailing `/sgx|tdx/certification/v4` is cut off. */
  readonly baseUrl: string;
  /** Directory for what was fetched, so that it survives a restart; Node only. */
  readonly cacheDir?: string;
  readonly fetch?: typeof fetch;
  /** Unix seconds; default the wall clock. */
  readonly now?: () => number;
  /** Whole time for one collateral set; default 10 000. */
  readonly timeoutMs?: number;
}

/** Client of Intel's PCS v4 or a PCCS (chapter 20 section 3.2). */
export function pcsCollateral(_options: PcsOptions): CollateralSource {
  throw new AttestationError('unsupported', 'not available');
}

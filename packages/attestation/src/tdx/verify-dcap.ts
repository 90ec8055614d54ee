import type { DcapCollateral } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import type { VerifyContext } from '../verify-context.ts';
import type { TdxQuote } from './quote.ts';
import type { DcapVerdict } from './tdx-evidence.ts';

/**
 * Chapter 20 section 3.3, all steps, for TDX and SGX quotes. TCB status is reported, not judged.
 * @throws AttestationError
 */
export async function verifyDcap(
  _quote: TdxQuote,
  _collateral: DcapCollateral,
  _context: VerifyContext,
): Promise<DcapVerdict> {
  throw new AttestationError('unsupported', 'not available');
}

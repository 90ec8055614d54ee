import type { Attestation } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import type { PlatformResult, VerifyContext } from '../verify-context.ts';
import type { TdxEvidence } from './tdx-evidence.ts';

/** DCAP, then what dstack checks in addition (chapter 20 section 3.4). Serves dstack-tdx and the TDX leg of GCP. */
export async function verifyTdx(
  _attestation: Attestation,
  _context: VerifyContext,
): Promise<PlatformResult & { readonly evidence: TdxEvidence }> {
  throw new AttestationError('unsupported', 'not available');
}

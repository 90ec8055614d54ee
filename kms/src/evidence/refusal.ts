import { AttestationError } from '@dstack-cloud/attestation';
import type { RpcError, RpcErrorCode } from '@dstack-cloud/prpc';
import { RaTlsError } from '@dstack-cloud/ra-tls';
import { imageRefusal } from '../image/image-refusal.ts';

/** Whether nothing was found against the evidence, but the collateral to verify it cannot be fetched. */
function lacksCollateral({ cause }: RaTlsError): boolean {
  return cause instanceof AttestationError && cause.code === 'collateral-unavailable';
}

/**
 * Evidence of another image than its configuration names is refused before collateral is fetched for it: its caller is
 * told the same as by the check that follows otherwise. Undefined for any other refusal.
 */
export function earlyImageRefusal({ cause }: RaTlsError): RpcError | undefined {
  if (!(cause instanceof AttestationError)) return undefined;
  return cause.check === 'image.tdx' || cause.check === 'image.gcp-tdx' ? imageRefusal(cause) : undefined;
}

/** What a caller is told. Where collateral comes from is for the log alone. */
export function publicRefusal(error: RaTlsError): RaTlsError {
  if (!lacksCollateral(error)) return error;
  const text = 'invalid quote: the collateral to judge it by is not to be had now; try again later';
  return new RaTlsError(error.code, text, { cause: error.cause });
}

/** The code of refused evidence: a caller may try again when collateral was missing. */
export function refusalCode(error: RaTlsError): RpcErrorCode {
  return lacksCollateral(error) ? 'UNAVAILABLE' : 'UNAUTHORIZED';
}

import { AttestationError, type CollateralSource } from '@dstack-cloud/attestation';

/** A source that has nothing: evidence that needs collateral cannot be verified. */
export function noCollateral(): CollateralSource {
  return { tdx: () => Promise.reject(collateralUnavailable('collateral of the quote')) };
}

/** The error for collateral that was not given. */
export function collateralUnavailable(what: string): AttestationError {
  return new AttestationError('collateral-unavailable', `No ${what} was given, and none may be fetched`);
}

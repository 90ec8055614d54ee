import { AttestationError, type CollateralSource } from '@dstack-cloud/attestation';

/** A source that has nothing: what needs collateral cannot be judged. */
export function noCollateral(): CollateralSource {
  return { tdx: () => Promise.reject(missing('collateral of the quote')) };
}

/** @throws nothing; the error to reject with when there is no `what` */
export function missing(what: string): AttestationError {
  return new AttestationError('collateral-unavailable', `No ${what} was given, and none may be fetched`);
}

import { AttestationError } from '../errors.ts';
import type { TrustRoots } from './trust-roots.ts';

/** The vendors' own roots, pinned in the source. */
export function vendorRoots(): TrustRoots {
  throw new AttestationError('unsupported', 'not available');
}

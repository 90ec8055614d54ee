import type { DcapCollateral } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';

/** Reads collateral JSON with the field names of dcap-qvl (chapter 20 section 3.1). */
export function dcapCollateralFromJson(_json: unknown): DcapCollateral {
  throw new AttestationError('unsupported', 'not available');
}

/** The same form, for files and bundles. */
export function dcapCollateralToJson(_collateral: DcapCollateral): Record<string, string> {
  throw new AttestationError('unsupported', 'not available');
}

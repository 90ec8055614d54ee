import type { CollateralSource, DcapCollateral } from '../collateral-source.ts';
import { dcapCollateralFromJson } from './collateral-json.ts';

/** A source that always answers with this collateral, given as JSON (3.1) or already read. */
export function staticCollateral(collateral: unknown): CollateralSource {
  const known = isCollateral(collateral) ? collateral : dcapCollateralFromJson(collateral);
  return { tdx: () => Promise.resolve(known) };
}

function isCollateral(value: unknown): value is DcapCollateral {
  return typeof value === 'object' && value !== null && 'tcbInfoIssuerChain' in value;
}

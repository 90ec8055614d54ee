import type { DcapCollateral } from '../collateral-source.ts';
import { parseQeIdentity } from '../tdx/qe-identity.ts';
import { parseTcbInfo } from '../tdx/tcb-info.ts';
import { parseCrl } from '../x509/crl.ts';

/**
 * Unix seconds from which on a part of the collateral is out of date: the first nextUpdate. Nothing is
 * verified here; this only says how long it may be kept.
 * @throws AttestationError when a part cannot be read
 */
export function collateralEnd(collateral: DcapCollateral): number {
  return Math.min(
    parseTcbInfo(collateral.tcbInfo).nextUpdate,
    parseQeIdentity(collateral.qeIdentity).nextUpdate,
    parseCrl(collateral.pckCrl).nextUpdate,
    parseCrl(collateral.rootCaCrl).nextUpdate,
  );
}

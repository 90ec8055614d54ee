import type { SimulatedGcp } from '../gcp/gcp-platform.ts';
import { ISSUER_PATHS } from '../gcp/issuer-places.ts';
import type { PcsResponse } from './pcs-responses.ts';

/** The answer to a path; undefined when it is none of the authority's. */
export type VtpmAuthority = (path: string) => PcsResponse | undefined;

/** What Google's certificate service has of the authority of attestation keys, DER. */
export function vtpmAuthority(gcp: SimulatedGcp, now: () => number): VtpmAuthority {
  return (path) => {
    if (path === ISSUER_PATHS.certificate)
      return { status: 200, type: 'application/pkix-cert', body: gcp.intermediateDer };
    const [list] = path === ISSUER_PATHS.list ? gcp.collateral(now()).crls : [];
    return list && { status: 200, type: 'application/pkix-crl', body: list };
  };
}

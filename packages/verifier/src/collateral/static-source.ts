import {
  type CollateralSource,
  type DcapCollateral,
  dcapCollateralFromJson,
  type TpmCollateral,
  tpmCollateralFromJson,
} from '@dstack-cloud/attestation';
import { VerifierError } from '../errors.ts';
import { collateralUnavailable } from './no-collateral.ts';

/** Collateral that is at hand, by kind. */
export interface CollateralSet {
  readonly dcap: readonly DcapCollateral[];
  readonly tpm: readonly TpmCollateral[];
}

/**
 * Reads collateral JSON; DCAP (docs/protocol/verification.md section 1.1) and vTPM collateral are told apart by their
 * members.
 * @throws VerifierError `malformed`
 * @throws AttestationError `malformed`
 */
export function readCollateral(documents: readonly unknown[]): CollateralSet {
  const dcap: DcapCollateral[] = [];
  const tpm: TpmCollateral[] = [];
  for (const document of documents) {
    const members = typeof document === 'object' && document !== null ? document : {};
    if ('tcb_info' in members) dcap.push(dcapCollateralFromJson(document));
    else if ('cert_chain_pem' in members) tpm.push(tpmCollateralFromJson(document));
    else throw new VerifierError('malformed', 'Collateral JSON with neither tcb_info nor cert_chain_pem');
  }
  return { dcap, tpm };
}

/** A source that answers from what is at hand, and has nothing else. */
export function staticSource(set: CollateralSet): CollateralSource {
  return {
    tdx: async ({ fmspc }) => {
      const fitting = set.dcap.find((entry) => fmspcOf(entry) === fmspc.toLowerCase()) ?? set.dcap[0];
      if (!fitting) throw collateralUnavailable('collateral of the quote');
      return fitting;
    },
    tpm: async () => {
      const [first, ...more] = set.tpm;
      if (!first) throw collateralUnavailable('vTPM collateral');
      return more.reduce(merge, first);
    },
  };
}

/** FMSPC that a set is for, from its unverified text: only to choose among several sets. */
function fmspcOf({ tcbInfo }: DcapCollateral): string | undefined {
  return /"fmspc"\s*:\s*"([0-9a-fA-F]{12})"/.exec(tcbInfo)?.[1]?.toLowerCase();
}

function merge(a: TpmCollateral, b: TpmCollateral): TpmCollateral {
  return {
    certChainPem: `${a.certChainPem}\n${b.certChainPem}`,
    crls: [...a.crls, ...b.crls, ...(a.rootCaCrl && b.rootCaCrl ? [b.rootCaCrl] : [])],
    ...((a.rootCaCrl ?? b.rootCaCrl) ? { rootCaCrl: (a.rootCaCrl ?? b.rootCaCrl)! } : {}),
    ...((a.firmwareEndorsement ?? b.firmwareEndorsement)
      ? { firmwareEndorsement: (a.firmwareEndorsement ?? b.firmwareEndorsement)! }
      : {}),
  };
}

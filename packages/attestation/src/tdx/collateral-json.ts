import { toHex } from '@dstack-cloud/encoding';
import type { DcapCollateral } from '../collateral-source.ts';
import { JsonFields } from '../json-fields.ts';

/**
 * Reads collateral JSON with the field names of dcap-qvl. Revocation lists are hex there; other forms are read as well.
 * @throws AttestationError
 */
export function dcapCollateralFromJson(json: unknown): DcapCollateral {
  const fields = new JsonFields(json, 'collateral');
  return {
    pckCrlIssuerChain: fields.text('pck_crl_issuer_chain'),
    rootCaCrl: fields.der('root_ca_crl', 'X509 CRL'),
    pckCrl: fields.der('pck_crl', 'X509 CRL'),
    tcbInfoIssuerChain: fields.text('tcb_info_issuer_chain'),
    tcbInfo: fields.text('tcb_info'),
    tcbInfoSignature: fields.hex('tcb_info_signature', 64),
    qeIdentityIssuerChain: fields.text('qe_identity_issuer_chain'),
    qeIdentity: fields.text('qe_identity'),
    qeIdentitySignature: fields.hex('qe_identity_signature', 64),
    ...(fields.has('pck_certificate_chain')
      ? { pckCertificateChain: fields.text('pck_certificate_chain') }
      : {}),
  };
}

/** The same form, for files and bundles. */
export function dcapCollateralToJson(collateral: DcapCollateral): Record<string, string> {
  return {
    pck_crl_issuer_chain: collateral.pckCrlIssuerChain,
    root_ca_crl: toHex(collateral.rootCaCrl),
    pck_crl: toHex(collateral.pckCrl),
    tcb_info_issuer_chain: collateral.tcbInfoIssuerChain,
    tcb_info: collateral.tcbInfo,
    tcb_info_signature: toHex(collateral.tcbInfoSignature),
    qe_identity_issuer_chain: collateral.qeIdentityIssuerChain,
    qe_identity: collateral.qeIdentity,
    qe_identity_signature: toHex(collateral.qeIdentitySignature),
    ...(collateral.pckCertificateChain === undefined
      ? {}
      : { pck_certificate_chain: collateral.pckCertificateChain }),
  };
}

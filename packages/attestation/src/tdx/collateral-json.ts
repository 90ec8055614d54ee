import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { DcapCollateral } from '../collateral-source.ts';
import { decoding } from '../decoding.ts';
import { JsonFields } from '../json-fields.ts';

/** Reads collateral JSON with the field names of dcap-qvl (chapter 20 section 3.1). @throws AttestationError */
export function dcapCollateralFromJson(json: unknown): DcapCollateral {
  const fields = new JsonFields(json, 'collateral');
  return {
    pckCrlIssuerChain: fields.text('pck_crl_issuer_chain'),
    rootCaCrl: unwrapHexBody(fields.hex('root_ca_crl')),
    pckCrl: fields.hex('pck_crl'),
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

/**
 * A PCCS answers with the root CRL as hex text, and some recorders keep that text as if it were the list. Its
 * signature is checked later, whichever form it came in.
 */
function unwrapHexBody(bytes: Uint8Array): Uint8Array {
  const DIGIT_3 = 0x33;
  const DIGIT_0 = 0x30;
  if (bytes[0] !== DIGIT_3 || bytes[1] !== DIGIT_0) return bytes;
  return decoding('collateral.root_ca_crl', () => fromHex(utf8Text(bytes).trim()));
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

import { toHex } from '@dstack-cloud/encoding';
import type { TpmCollateral } from '../collateral-source.ts';
import { JsonFields } from '../json-fields.ts';
import { derForm } from '../x509/der-form.ts';

const MAX_CRLS = 8;

/**
 * Reads vTPM collateral JSON: `cert_chain_pem`, `crls` and `root_ca_crl` (hex DER, other forms are read as well), and our
 * `firmware_endorsement` (hex).
 * @throws AttestationError `malformed`
 */
export function tpmCollateralFromJson(json: unknown): TpmCollateral {
  const fields = new JsonFields(json, 'TPM collateral');
  return {
    certChainPem: fields.text('cert_chain_pem'),
    crls: fields.texts('crls', MAX_CRLS).map((text) => derForm(text, 'X509 CRL')),
    ...(fields.has('root_ca_crl') ? { rootCaCrl: fields.der('root_ca_crl', 'X509 CRL') } : {}),
    ...(fields.has('firmware_endorsement')
      ? { firmwareEndorsement: fields.hex('firmware_endorsement') }
      : {}),
  };
}

/** The same form, for files and bundles. */
export function tpmCollateralToJson(collateral: TpmCollateral): Record<string, unknown> {
  const { certChainPem, crls, rootCaCrl, firmwareEndorsement } = collateral;
  return {
    cert_chain_pem: certChainPem,
    crls: crls.map((crl) => toHex(crl)),
    ...(rootCaCrl ? { root_ca_crl: toHex(rootCaCrl) } : {}),
    ...(firmwareEndorsement ? { firmware_endorsement: toHex(firmwareEndorsement) } : {}),
  };
}

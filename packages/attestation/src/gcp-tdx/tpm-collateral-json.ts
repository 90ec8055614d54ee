import { EncodingError, fromHex, toHex } from '@dstack-cloud/encoding';
import type { TpmCollateral } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { JsonFields } from '../json-fields.ts';

const MAX_CRLS = 8;

/**
 * Reads vTPM collateral JSON: `cert_chain_pem`, `crls` and `root_ca_crl` (hex DER), and our
 * `firmware_endorsement` (hex).
 * @throws AttestationError `malformed`
 */
export function tpmCollateralFromJson(json: unknown): TpmCollateral {
  const fields = new JsonFields(json, 'TPM collateral');
  return {
    certChainPem: fields.text('cert_chain_pem'),
    crls: fields.texts('crls', MAX_CRLS).map((text) => hex(text)),
    ...(fields.has('root_ca_crl') ? { rootCaCrl: fields.hex('root_ca_crl') } : {}),
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

function hex(text: string): Uint8Array {
  try {
    return fromHex(text);
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new AttestationError('malformed', 'TPM collateral: crls holds text that is no hex', { cause });
  }
}

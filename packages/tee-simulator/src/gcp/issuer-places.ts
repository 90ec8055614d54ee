import { der, utf8 } from '@dstack-cloud/encoding';
import { certificateExtension } from '../pki/certificate.ts';

const AUTHORITY_INFO_ACCESS = '1.3.6.1.5.5.7.1.1';
const CA_ISSUERS = '1.3.6.1.5.5.7.48.2';
const CRL_DISTRIBUTION_POINTS = '2.5.29.31';
/** GeneralName uniformResourceIdentifier (RFC 5280 section 4.2.1.6). */
const URI = 6;

/** Where the collateral service has the authority of attestation keys. */
export const ISSUER_PATHS = { certificate: '/gcp/intermediate.crt', list: '/gcp/intermediate.crl' } as const;

/** The extensions by which a certificate says where its issuer's certificate and revocation list lie. */
export function issuerPlaces(service: string): Uint8Array[] {
  const uri = (url: string): Uint8Array => der.implicit(URI, utf8(url));
  return [
    certificateExtension(
      AUTHORITY_INFO_ACCESS,
      der.sequence(der.sequence(der.oid(CA_ISSUERS), uri(`${service}${ISSUER_PATHS.certificate}`))),
    ),
    certificateExtension(
      CRL_DISTRIBUTION_POINTS,
      der.sequence(der.sequence(der.explicit(0, der.explicit(0, uri(`${service}${ISSUER_PATHS.list}`))))),
    ),
  ];
}

/** Object identifiers of docs/protocol/ra-tls.md section 1.1 (private enterprise number 62397). */
export const OID = {
  tdxQuote: '1.3.6.1.4.1.62397.1.1',
  tdxEventLog: '1.3.6.1.4.1.62397.1.2',
  appId: '1.3.6.1.4.1.62397.1.3',
  usage: '1.3.6.1.4.1.62397.1.4',
  attestation: '1.3.6.1.4.1.62397.1.8',
  appInfo: '1.3.6.1.4.1.62397.1.9',
} as const;

/** Object identifiers of RFC 5280 and RFC 5480. */
export const X509_OID = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
} as const;

/** Texts of the usage extension in use (docs/protocol/ra-tls.md section 2.3). */
export const USAGE = { kmsRpc: 'kms:rpc', appCa: 'app:ca', appCustom: 'app:custom' } as const;

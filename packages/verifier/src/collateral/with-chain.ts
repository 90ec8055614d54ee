import { boundMethods, type CollateralSource } from '@dstack-cloud/attestation';
import { encodePem, utf8 } from '@dstack-cloud/encoding';

/**
 * A source that also hands out certificates which travelled apart from the evidence: the PCK chain of a quote
 * without one, the certificates of an SEV-SNP report.
 * @param chain DER; a PCK chain leaf first, those of AMD in any order
 */
export function withChain(source: CollateralSource, chain: readonly Uint8Array[]): CollateralSource {
  if (chain.length === 0) return source;
  const pem = chain.map((der) => encodePem('CERTIFICATE', der)).join('');
  return {
    ...boundMethods(source),
    pckCertificate: () => Promise.resolve(pem),
    snp: () => Promise.resolve({ ask: utf8(pem), vcek: utf8(pem) }),
  };
}

import type { CollateralSource } from '@dstack-cloud/attestation';
import { encodePem } from '@dstack-cloud/encoding';

/**
 * A source that also hands out certificates which travelled apart from the evidence: the PCK chain of a quote
 * without one.
 * @param chain DER, leaf first
 */
export function withChain(source: CollateralSource, chain: readonly Uint8Array[]): CollateralSource {
  if (chain.length === 0) return source;
  const pem = chain.map((der) => encodePem('CERTIFICATE', der)).join('');
  return {
    ...boundMethods(source),
    pckCertificate: () => Promise.resolve(pem),
  };
}

/** Methods as own properties, so that a spread keeps those of a class. */
export function boundMethods(source: CollateralSource): CollateralSource {
  return {
    tdx: (request) => source.tdx(request),
    ...(source.forget ? { forget: (request) => source.forget!(request) } : {}),
    ...(source.pckCertificate ? { pckCertificate: (request) => source.pckCertificate!(request) } : {}),
    ...(source.tpm ? { tpm: (request) => source.tpm!(request) } : {}),
    ...(source.snp ? { snp: (request) => source.snp!(request) } : {}),
    ...(source.crl ? { crl: (url) => source.crl!(url) } : {}),
  };
}

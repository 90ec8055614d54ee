import { boundMethods, type CollateralSource, parseCertificate } from '@dstack-cloud/attestation';
import { encodePem, equalBytes } from '@dstack-cloud/encoding';
import { missing } from './unavailable.ts';

/**
 * A source that also hands out certificates which travelled apart from the evidence: the PCK chain of a quote
 * without one, ASK and VCEK of an SEV-SNP report.
 * @param chain DER; a PCK chain leaf first, ASK and VCEK in any order
 */
export function withChain(source: CollateralSource, chain: readonly Uint8Array[]): CollateralSource {
  if (chain.length === 0) return source;
  const pem = chain.map((der) => encodePem('CERTIFICATE', der)).join('');
  return {
    ...boundMethods(source),
    pckCertificate: () => Promise.resolve(pem),
    snp: async () => {
      const [ask, vcek] = askAndVcek(chain);
      if (!ask || !vcek) throw missing('ASK and VCEK');
      return { ask, vcek };
    },
  };
}

/** ASK and VCEK among some certificates: the CA below a root, and what is no CA; both or nothing. */
export function askAndVcek(chain: readonly Uint8Array[]): Uint8Array[] {
  const parsed = chain.map((der) => parseCertificate(der));
  const ask = parsed.find(({ isCa, subject, issuer }) => isCa && !equalBytes(subject, issuer));
  const vcek = parsed.find(({ isCa }) => !isCa);
  return ask && vcek ? [ask.der, vcek.der] : [];
}

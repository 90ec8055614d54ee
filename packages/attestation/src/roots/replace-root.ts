import { equalBytes } from '@dstack-cloud/encoding';
import type { TrustRoot, TrustRoots } from './trust-roots.ts';

/** Names of the roots in configuration, as the original has them (chapter 20 section 8). */
export const ROOT_NAMES = [
  'tdx',
  'gcp_tpm',
  'aws_nitro_enclave',
  'aws_nitro_tpm',
  'sev_snp_milan',
  'sev_snp_genoa',
  'sev_snp_turin',
] as const;

export type RootName = (typeof ROOT_NAMES)[number];

/**
 * The same roots, with this one INSTEAD of the vendor's of that name. It counts as simulated unless it is the
 * vendor's own, byte for byte.
 * @param der DER of the certificate
 */
export function replaceRoot(roots: TrustRoots, name: RootName, der: Uint8Array): TrustRoots {
  const root = (known: readonly TrustRoot[]): readonly TrustRoot[] => {
    const same = known.find((candidate) => equalBytes(candidate.der, der));
    return [same ?? { name: `configured ${name}`, der, simulated: true }];
  };
  const { sevSnp } = roots;
  switch (name) {
    case 'tdx':
      return { ...roots, tdx: root(roots.tdx) };
    case 'gcp_tpm':
      return { ...roots, gcpTpm: root(roots.gcpTpm) };
    case 'aws_nitro_enclave':
      return { ...roots, nitro: root(roots.nitro) };
    case 'aws_nitro_tpm':
      return { ...roots, nitroTpm: root(roots.nitroTpm) };
    case 'sev_snp_milan':
      return { ...roots, sevSnp: { ...sevSnp, milan: root(sevSnp.milan) } };
    case 'sev_snp_genoa':
      return { ...roots, sevSnp: { ...sevSnp, genoa: root(sevSnp.genoa) } };
    case 'sev_snp_turin':
      return { ...roots, sevSnp: { ...sevSnp, turin: root(sevSnp.turin) } };
  }
}

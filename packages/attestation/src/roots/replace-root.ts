import { equalBytes } from '@dstack-cloud/encoding';
import type { TrustRoot, TrustRoots } from './trust-roots.ts';

/** Names of the roots in configuration, as the original has them. */
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
  return changed(roots, name, (known) => [known.find(isSame(der)) ?? configured(name, der)]);
}

/**
 * The same roots, with this one BESIDE those of that name. It counts as simulated unless it is the vendor's own, byte
 * for byte.
 * @param der DER of the certificate
 */
export function addRoot(roots: TrustRoots, name: RootName, der: Uint8Array): TrustRoots {
  return changed(roots, name, (known) =>
    known.some(isSame(der)) ? known : [...known, configured(name, der)],
  );
}

/** As `addRoot` for Intel's, which most tests and simulated machines need. */
export function withTdxRoot(roots: TrustRoots, der: Uint8Array): TrustRoots {
  return addRoot(roots, 'tdx', der);
}

/** Whether any root is not a vendor's: what it vouches for proves nothing about real hardware. */
export function hasSimulatedRoot({ tdx, gcpTpm, nitro, nitroTpm, sevSnp }: TrustRoots): boolean {
  return [tdx, gcpTpm, nitro, nitroTpm, ...Object.values(sevSnp)].flat().some((root) => root.simulated);
}

type Change = (known: readonly TrustRoot[]) => readonly TrustRoot[];

function changed(roots: TrustRoots, name: RootName, change: Change): TrustRoots {
  const { sevSnp } = roots;
  switch (name) {
    case 'tdx':
      return { ...roots, tdx: change(roots.tdx) };
    case 'gcp_tpm':
      return { ...roots, gcpTpm: change(roots.gcpTpm) };
    case 'aws_nitro_enclave':
      return { ...roots, nitro: change(roots.nitro) };
    case 'aws_nitro_tpm':
      return { ...roots, nitroTpm: change(roots.nitroTpm) };
    case 'sev_snp_milan':
      return { ...roots, sevSnp: { ...sevSnp, milan: change(sevSnp.milan) } };
    case 'sev_snp_genoa':
      return { ...roots, sevSnp: { ...sevSnp, genoa: change(sevSnp.genoa) } };
    case 'sev_snp_turin':
      return { ...roots, sevSnp: { ...sevSnp, turin: change(sevSnp.turin) } };
  }
}

function isSame(der: Uint8Array): (root: TrustRoot) => boolean {
  return (root) => equalBytes(root.der, der);
}

function configured(name: RootName, der: Uint8Array): TrustRoot {
  return { name: `configured ${name}`, der, simulated: true };
}

import {
  type CollateralSource,
  type TrustRoot,
  type TrustRoots,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { equalBytes, fromBase64 } from '@dstack-cloud/encoding';
import type { ConfiguredFiles, RootName } from '../config/configured-files.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import { vendorCollateral } from './vendor-collateral.ts';

/** What evidence is judged with. */
export type Trust = {
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
  /** A root that is not the vendor's is configured: every answer says so. */
  readonly simulated: boolean;
};

/** Trust roots and collateral source as configured (chapter 10 section 7.2). */
export function makeTrust(config: KmsConfig, { rootCa: files }: ConfiguredFiles): Trust {
  const vendor = vendorRoots();
  const withFile = (known: readonly TrustRoot[], name: RootName): readonly TrustRoot[] =>
    withRoot(known, name, files[name]);
  const roots: TrustRoots = {
    tdx: withFile(vendor.tdx, 'tdx'),
    gcpTpm: withFile(vendor.gcpTpm, 'gcp_tpm'),
    nitro: withFile(vendor.nitro, 'aws_nitro_enclave'),
    nitroTpm: withFile(vendor.nitroTpm, 'aws_nitro_tpm'),
    sevSnp: {
      milan: withFile(vendor.sevSnp.milan, 'sev_snp_milan'),
      genoa: withFile(vendor.sevSnp.genoa, 'sev_snp_genoa'),
      turin: withFile(vendor.sevSnp.turin, 'sev_snp_turin'),
    },
  };
  const all = [
    ...roots.tdx,
    ...roots.gcpTpm,
    ...roots.nitro,
    ...roots.nitroTpm,
    ...Object.values(roots.sevSnp).flat(),
  ];
  return {
    roots,
    simulated: all.some((root) => root.simulated),
    collateral: vendorCollateral(config),
  };
}

/** One more root; marked simulated unless it is the vendor's own. */
function withRoot(
  vendor: readonly TrustRoot[],
  name: string,
  certificate: string | undefined,
): readonly TrustRoot[] {
  if (certificate === undefined) return vendor;
  const der = fromBase64(certificate);
  if (vendor.some((root) => equalBytes(root.der, der))) return vendor;
  return [...vendor, { name: `configured ${name} root`, der, simulated: true }];
}

import { join } from 'node:path';
import {
  addRoot,
  type CollateralSource,
  hasSimulatedRoot,
  ROOT_NAMES,
  type TrustRoots,
  vendorCollateral,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { fromBase64 } from '@dstack-cloud/encoding';
import type { ConfiguredFiles } from '../config/configured-files.ts';
import type { KmsConfig } from '../config/kms-config.ts';

const PCS_TIMEOUT_MS = 20_000;

/** What evidence is verified with. */
export type Trust = {
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
  /** A root that is not the vendor's is configured: every answer says so. */
  readonly simulated: boolean;
};

/** The vendors' roots with the configured ones beside them, and their services. */
export function makeTrust({ core }: KmsConfig, { rootCa }: ConfiguredFiles): Trust {
  const roots = ROOT_NAMES.reduce((all, name) => {
    const certificate = rootCa[name];
    return certificate === undefined ? all : addRoot(all, name, fromBase64(certificate));
  }, vendorRoots());
  const { urls, cache_dir: cacheDir } = core.attestation;
  const collateral = vendorCollateral({
    roots,
    pccs: urls.pccs ?? core.pccs_url,
    pccsTimeoutMs: PCS_TIMEOUT_MS,
    amdKds: urls.amd_kds,
    isPublic: true,
    cacheDir: cacheDir ?? join(core.cert_dir, 'collateral'),
  });
  return { roots, simulated: hasSimulatedRoot(roots), collateral };
}

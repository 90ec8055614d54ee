import { join } from 'node:path';
import {
  amdKdsCollateral,
  type CollateralSource,
  googleTpmCollateral,
  pcsCollateral,
  vendorCrls,
} from '@dstack-cloud/attestation';
import type { KmsConfig } from '../config/kms-config.ts';

const INTEL_PCS = 'https://api.trustedservices.intel.com';
const PCS_TIMEOUT_MS = 20_000;

/**
 * What judging evidence needs from the vendors: Intel's collateral, Google's certificates and firmware endorsements,
 * AMD's certificates, revocation lists. Each service has its own bounds and cache.
 */
export function vendorCollateral({ core }: KmsConfig): CollateralSource {
  const { urls, root_ca: roots, cache_dir: cacheDir } = core.attestation;
  const pcs = pcsCollateral({
    baseUrl: urls.pccs ?? core.pccs_url ?? INTEL_PCS,
    timeoutMs: PCS_TIMEOUT_MS,
    cacheDir: cacheDir ?? join(core.cert_dir, 'collateral'),
  });
  // Under a test root the certificates lie on this machine.
  const google = googleTpmCollateral({ allowLoopback: roots.gcp_tpm !== undefined });
  const amd = amdKdsCollateral(urls.amd_kds === undefined ? {} : { baseUrl: urls.amd_kds });
  const crls = vendorCrls();
  return {
    tdx: (request) => pcs.tdx(request),
    ...(pcs.pckCertificate && { pckCertificate: (request) => pcs.pckCertificate!(request) }),
    ...(pcs.atHand && { atHand: (request) => pcs.atHand!(request) }),
    ...(pcs.forget && { forget: (request) => pcs.forget!(request) }),
    tpm: (request) => google.tpm(request),
    snp: (request) => amd.snp(request),
    crl: (url) => crls.crl(url),
  };
}

import {
  amdKdsCollateral,
  type CollateralSource,
  googleTpmCollateral,
  pcsCollateral,
  vendorCrls,
} from '@dstack-cloud/attestation';
import { boundMethods } from './with-chain.ts';

/** Intel's own service: it needs no key for what is asked. */
const INTEL_PCS = 'https://api.trustedservices.intel.com';

export interface OnlineOptions {
  /** Base URL of Intel's PCS or a PCCS; default the environment's PCCS_URL, then Intel's. */
  readonly pccs?: string | undefined;
  /** Base URL of AMD's key distribution service. */
  readonly amdKds?: string | undefined;
  /** Hosts allowed for vTPM certificates besides Google's. */
  readonly tpmHosts?: readonly string[] | undefined;
  /** Whether hosts of this machine are allowed for vTPM certificates: under a test root only. */
  readonly tpmLoopback?: boolean | undefined;
  readonly cacheDir?: string | undefined;
  /** Unix seconds. */
  readonly now?: (() => number) | undefined;
}

/** The vendors' services, each with its own bounds and cache. */
export function onlineCollateral(options: OnlineOptions): CollateralSource {
  const baseUrl = options.pccs ?? process.env['PCCS_URL'] ?? INTEL_PCS;
  const clock = options.now ? { now: options.now } : {};
  const pcs = pcsCollateral({
    baseUrl,
    ...clock,
    ...(options.cacheDir ? { cacheDir: options.cacheDir } : {}),
  });
  return {
    ...boundMethods(pcs),
    ...vendorCrls(clock),
    ...googleTpmCollateral({
      ...clock,
      ...(options.tpmHosts ? { extraHosts: options.tpmHosts } : {}),
      allowLoopback: options.tpmLoopback ?? false,
    }),
    ...amdKdsCollateral({ ...clock, ...(options.amdKds ? { baseUrl: options.amdKds } : {}) }),
  };
}

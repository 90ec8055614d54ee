import { amdKdsCollateral } from './collateral/amd-kds.ts';
import type { Fetch } from './collateral/bounded-fetch.ts';
import { pcsCollateral } from './collateral/pcs-collateral.ts';
import { vendorCrls } from './collateral/vendor-crls.ts';
import { type CollateralSource, settledBy } from './collateral-source.ts';
import { AttestationError } from './errors.ts';
import { googleTpmCollateral } from './gcp-tdx/google-collateral.ts';
import { LOOPBACK } from './gcp-tdx/google-hosts.ts';
import type { TrustRoots } from './roots/trust-roots.ts';

/** Intel's own service; it needs no key for what is asked. Any PCCS answers the same paths. */
export const INTEL_PCS = 'https://api.trustedservices.intel.com';

export interface VendorCollateralOptions {
  /** The roots that evidence is verified with: under a test root of the vTPM, its certificates lie on this machine. */
  readonly roots: TrustRoots;
  /** Base URL of a PCCS; default Intel's service. */
  readonly pccs?: string | undefined;
  /** Whole time for one set of Intel's collateral, in milliseconds. */
  readonly pccsTimeoutMs?: number | undefined;
  /** Base URL of AMD's key distribution service or a cache of it. */
  readonly amdKds?: string | undefined;
  /** Hosts (with port) allowed for vTPM certificates besides Google's. */
  readonly tpmHosts?: readonly string[] | undefined;
  /** Directory for Intel's collateral. */
  readonly cacheDir?: string | undefined;
  /** Unix seconds; default the wall clock. */
  readonly now?: (() => number) | undefined;
  readonly fetch?: Fetch | undefined;
  /**
   * Whether evidence of anybody is verified, as a service does. A quote that does not carry its PCK certificate is then
   * refused: its signature cannot be checked before somebody is asked for that certificate.
   */
  readonly isPublic?: boolean | undefined;
}

const NO_PCK_CHAIN =
  'The quote does not carry the chain of its PCK certificate (certification data of type 5)';

/**
 * What verifying evidence of any platform needs from the vendors: Intel's collateral, Google's certificates and firmware
 * endorsements, AMD's certificates, revocation lists. Each service has its own bounds and cache. Whoever verifies
 * evidence (key service, guest, verifier, command line) asks through this.
 */
export function vendorCollateral(options: VendorCollateralOptions): CollateralSource {
  const { roots, pccs = INTEL_PCS, pccsTimeoutMs, amdKds, tpmHosts, cacheDir, now, fetch } = options;
  const common = { ...(now && { now }), ...(fetch && { fetch }) };
  const pcs = pcsCollateral({
    ...common,
    baseUrl: pccs,
    ...(pccsTimeoutMs !== undefined && { timeoutMs: pccsTimeoutMs }),
    ...(cacheDir !== undefined && { cacheDir }),
  });
  const isSimulated = roots.gcpTpm.some((root) => root.simulated);
  const google = googleTpmCollateral({
    ...common,
    ...(tpmHosts && { extraHosts: tpmHosts }),
    allowLoopback: isSimulated,
    ...(isSimulated && options.pccs !== undefined && !isLoopback(pccs) && { loopbackAt: pccs }),
  });
  const amd = amdKdsCollateral({ ...common, ...(amdKds !== undefined && { baseUrl: amdKds }) });
  const crls = vendorCrls(common);
  const refusePck = () => Promise.reject(new AttestationError('unsupported', NO_PCK_CHAIN));
  return {
    ...boundMethods(pcs),
    ...google,
    ...amd,
    ...crls,
    settled: settledBy(pcs, google, amd, crls),
    ...(options.isPublic === true && { pckCertificate: refusePck }),
  };
}

/** A simulated vTPM's authority is at the collateral service, which a guest reaches by another address than its host. */
function isLoopback(url: string): boolean {
  return !URL.canParse(url) || LOOPBACK.includes(new URL(url).hostname);
}

/** The methods of a source as own properties, so that a spread keeps those of a class. */
export function boundMethods(source: CollateralSource): CollateralSource {
  const { atHand, pckCertificate, tpm, snp, crl, settled } = source;
  return {
    tdx: (request, permit) => source.tdx(request, permit),
    ...(atHand && { atHand: (request) => atHand.call(source, request) }),
    ...(pckCertificate && {
      pckCertificate: (request, permit) => pckCertificate.call(source, request, permit),
    }),
    ...(tpm && { tpm: (request, permit) => tpm.call(source, request, permit) }),
    ...(snp && { snp: (request, permit) => snp.call(source, request, permit) }),
    ...(crl && { crl: (url) => crl.call(source, url) }),
    ...(settled && { settled: (answer, isGood) => settled.call(source, answer, isGood) }),
  };
}

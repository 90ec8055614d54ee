import type { Attestation, AttestationMode } from './attestation.ts';
import type { Check, CheckRecorder } from './check-recorder.ts';
import type { CollateralSource, FetchPermit } from './collateral-source.ts';
import type { CryptoBackend } from './crypto/backend.ts';
import type { VerificationCache } from './crypto/verification-cache.ts';
import type { PlatformEvidence } from './platform-evidence.ts';
import type { TrustRoots } from './roots/trust-roots.ts';
import type { SnpLevel } from './tcb-policy/snp-policy.ts';

/** What evidence is verified with. Nothing here is policy: see `appraiseTcb` for that. */
export interface VerifyOptions {
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
  /** Asked before the source asks a vendor, for evidence of strangers; none by default. */
  readonly permit?: FetchPermit;
  /** Unix seconds. */
  readonly now: number;
  /** Default: node:crypto in Node, WebCrypto elsewhere. */
  readonly crypto?: CryptoBackend;
  /** What was verified before; default: one cache for the process. */
  readonly cache?: VerificationCache;
  /** SubjectPublicKeyInfo (DER) of the RA-TLS key to which report_data must bind. */
  readonly ratlsSpki?: Uint8Array;
  /** Report data that the evidence must carry, 64 bytes (a verifier's challenge). */
  readonly expectedReportData?: Uint8Array;
  /** Switches of single platforms; every default is the strict one. */
  readonly platform?: PlatformOptions;
}

export interface PlatformOptions {
  /**
   * TDX: boot events in the log must replay to RTMR 0 to 2; default true. A key service that recomputes the registers
   * from the image switches it off: the log of a certificate may hold any part of the events, and nothing is read
   * from them that the registers do not prove (docs/protocol/evidence.md section 7.1).
   */
  readonly tdxBootEventReplay?: boolean;
  /** Accept a non-zero MRSERVICETD (docs/protocol/verification.md section 2.4). */
  readonly dangerouslyAllowServiceTd?: boolean;
  /** Nitro: accept a document whose PCR 0, 1 or 2 is zero. */
  readonly dangerouslyAllowDebugEnclave?: boolean;
  /** Nitro: largest distance between document and `now`, seconds; default 300. `null`: no bound. */
  readonly nitroMaxAgeSeconds?: number | null;
  /** Nitro: what a missing or unreachable CRL means; default `soft`. */
  readonly nitroCrl?: 'off' | 'soft' | 'hard';
  /**
   * GCP: require Google's endorsement of the firmware; default true. `vendor`: not of machines whose vTPM is under a
   * simulated root, whose firmware nobody endorses.
   */
  readonly gcpFirmwareEndorsement?: boolean | 'vendor';
  /** GCP: accepted PCR 0 values (32 bytes, hex), instead of `GCE_TDX_PCR0` alone; none when empty. */
  readonly gcpPcr0?: readonly string[];
  /** GCP: accepted MRTD values (48 bytes, hex); empty or absent: any that is endorsed. */
  readonly gcpMrtd?: readonly string[];
  /** GCP: expected digest of the kernel inside the UKI (32 bytes, hex), the fourth event of PCR 2. */
  readonly gcpKernelDigest?: string;
}

/** What a platform's verifier works with. */
export interface VerifyContext {
  readonly options: VerifyOptions;
  readonly now: number;
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
  readonly crypto: CryptoBackend;
  readonly cache: VerificationCache;
  readonly checks: CheckRecorder;
}

/** What a platform's verifier found; report_data and identities are handled by the caller. */
export interface PlatformResult {
  /** True when the trust root was not the vendor's. */
  readonly simulated: boolean;
  /** The 64 bytes that the hardware signed. */
  readonly reportData: Uint8Array;
  /** Intel's status text, or the empty string where a platform has none. */
  readonly tcbStatus: string;
  readonly advisoryIds: readonly string[];
  /** PPID, instance id or chip id; `device_id` is its SHA-256. */
  readonly rawDeviceId: Uint8Array;
  /** Registers by lower-case name: mrtd, rtmr0…3, pcr0…, measurement, host_data. */
  readonly registers: Readonly<Record<string, Uint8Array>>;
  /** Unix seconds between which the same evidence and collateral give the same result. */
  readonly validFrom: number;
  readonly validUntil: number;
  readonly evidence: PlatformEvidence;
  /** SEV-SNP only: what the policy appraises besides the status. */
  readonly snp?: SnpLevel;
}

/** One platform: its mode's verifier, registered in `platforms.ts`. */
export type PlatformVerifier = (attestation: Attestation, context: VerifyContext) => Promise<PlatformResult>;

/** Evidence that passed every check. Policy has not been asked. */
export interface VerifiedAttestation extends PlatformResult {
  readonly mode: AttestationMode;
  readonly attestation: Attestation;
  readonly runtimeEvents: Attestation['runtimeEvents'];
  /** Configuration text, unwrapped (docs/protocol/evidence.md section 6). */
  readonly config: string;
  /** In order, all ok. */
  readonly checks: readonly Check[];
}

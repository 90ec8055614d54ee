/** How a workload is attested; the order is the SCALE index of docs/protocol/evidence.md section 1. */
export const ATTESTATION_MODES = [
  'dstack-tdx',
  'dstack-gcp-tdx',
  'dstack-nitro-enclave',
  'dstack-amd-sev-snp',
  'dstack-aws-nitro-tpm',
] as const;

export type AttestationMode = (typeof ATTESTATION_MODES)[number];

/** One event that the guest measured after boot (docs/protocol/event-logs.md section 3.1). */
export interface RuntimeEvent {
  readonly event: string;
  readonly payload: Uint8Array;
  /** Absent for version 1. Version 2 hashes a canonical JSON instead. */
  readonly version?: 2;
}

/** One event of the TDX event log: boot events of RTMR 0..3 and runtime events (imr 3, type 0x08000001). */
export interface TdxEvent {
  readonly imr: number;
  readonly eventType: number;
  /** SHA-384, or empty where it was stripped. */
  readonly digest: Uint8Array;
  readonly event: string;
  readonly eventPayload: Uint8Array;
  readonly version?: 2;
  /** Hex of the canonical JSON that a version 2 event hashes. */
  readonly preimage?: string;
}

export interface PcrValue {
  readonly index: number;
  readonly algorithm: string;
  readonly value: Uint8Array;
}

export interface TpmEvent {
  readonly pcrIndex: number;
  readonly digest: Uint8Array;
}

/** Platform byte of a TpmQuote: 0 dstack, 1 gcp, 2 nitro enclave, 3 aws-ec2. */
export type TpmPlatform = 0 | 1 | 2 | 3;

export interface TpmQuote {
  /** TPMS_ATTEST. */
  readonly message: Uint8Array;
  /** TPMT_SIGNATURE, possibly followed by session bytes. */
  readonly signature: Uint8Array;
  readonly pcrValues: readonly PcrValue[];
  /** DER. */
  readonly akCert: Uint8Array;
  readonly platform: TpmPlatform;
  readonly eventLog: readonly TpmEvent[];
}

export interface TdxAttestationQuote {
  readonly mode: 'dstack-tdx';
  readonly quote: Uint8Array;
  readonly eventLog: readonly TdxEvent[];
}

export interface GcpTdxAttestationQuote {
  readonly mode: 'dstack-gcp-tdx';
  readonly quote: Uint8Array;
  readonly eventLog: readonly TdxEvent[];
  readonly tpmQuote: TpmQuote;
}

export interface NitroAttestationQuote {
  readonly mode: 'dstack-nitro-enclave';
  /** The bare COSE_Sign1. */
  readonly nsmQuote: Uint8Array;
}

export interface SnpAttestationQuote {
  readonly mode: 'dstack-amd-sev-snp';
  readonly report: Uint8Array;
  readonly certChain: readonly Uint8Array[];
  /** MrConfigV3 document, exactly as it is hashed. */
  readonly mrConfig: string;
}

export interface NitroTpmAttestationQuote {
  readonly mode: 'dstack-aws-nitro-tpm';
  readonly attestationDoc: Uint8Array;
}

export type AttestationQuote =
  | TdxAttestationQuote
  | GcpTdxAttestationQuote
  | NitroAttestationQuote
  | SnpAttestationQuote
  | NitroTpmAttestationQuote;

/** A VersionedAttestation of either wire version, unverified (docs/protocol/evidence.md sections 3.2 and 4.1). */
export interface Attestation {
  readonly quote: AttestationQuote;
  readonly runtimeEvents: readonly RuntimeEvent[];
  /** 64 bytes. */
  readonly reportData: Uint8Array;
  /** Text as carried; `attestedConfig` unwraps a nested `vm_config`. */
  readonly config: string;
  /** Present for stack `dstack-pod` (V1 only): report_data is derived from it. */
  readonly reportDataPayload?: string;
}

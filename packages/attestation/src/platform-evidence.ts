import type { TdxEvidence } from './tdx-evidence.ts';

/** A generation of AMD processors, by the name that AMD's key service uses. */
export type SnpProduct = 'Milan' | 'Genoa' | 'Turin';

/** Fields of an SEV-SNP report that measurements are derived from. */
export interface SnpEvidence {
  readonly kind: 'sev-snp';
  readonly product: SnpProduct;
  /** 64 bytes. */
  readonly chipId: Uint8Array;
  /** 48 bytes. */
  readonly measurement: Uint8Array;
  /** 32 bytes. */
  readonly hostData: Uint8Array;
  /** The document that hashes to `hostData`. */
  readonly mrConfig: string;
}

/** Fields of an NSM document that measurements are derived from. */
export interface NitroEvidence {
  readonly kind: 'nitro';
  readonly moduleId: string;
  /** Milliseconds. */
  readonly timestamp: number;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** PCR 0, 1 or 2 is zero. */
  readonly debug: boolean;
}

export interface NitroTpmEvidence {
  readonly kind: 'nitro-tpm';
  readonly moduleId: string;
  readonly timestamp: number;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
}

export interface GcpTdxEvidence {
  readonly kind: 'gcp-tdx';
  readonly tdx: TdxEvidence;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** Authenticode SHA-256 of the UKI, from the log of PCR 2. */
  readonly ukiDigest: Uint8Array;
}

export type PlatformEvidence = TdxEvidence | GcpTdxEvidence | NitroEvidence | NitroTpmEvidence | SnpEvidence;

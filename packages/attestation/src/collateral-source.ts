/** Everything of Intel's that verifying a quote needs besides the quote (docs/protocol/verification.md section 1.1). */
export interface DcapCollateral {
  /** PEM. */
  readonly pckCrlIssuerChain: string;
  /** DER. */
  readonly rootCaCrl: Uint8Array;
  /** DER; CRL of the PCK Platform or Processor CA. */
  readonly pckCrl: Uint8Array;
  /** PEM: TCB signing certificate, root. */
  readonly tcbInfoIssuerChain: string;
  /** Exact text of the `tcbInfo` JSON value as served. */
  readonly tcbInfo: string;
  /** r‖s, 64 bytes. */
  readonly tcbInfoSignature: Uint8Array;
  /** PEM. */
  readonly qeIdentityIssuerChain: string;
  /** Exact text of the `enclaveIdentity` JSON value as served. */
  readonly qeIdentity: string;
  readonly qeIdentitySignature: Uint8Array;
  /** PEM; preferred over the chain in the quote. */
  readonly pckCertificateChain?: string;
}

export interface DcapCollateralRequest {
  readonly tee: 'tdx' | 'sgx';
  /** 6 bytes, lower-case hex. */
  readonly fmspc: string;
  readonly ca: 'processor' | 'platform';
}

/** What Intel's service needs to find a PCK certificate that the quote does not carry. */
export interface PckCertificateRequest {
  readonly qeId: Uint8Array;
  readonly encryptedPpid: Uint8Array;
  readonly cpuSvn: Uint8Array;
  readonly pceSvn: number;
  readonly pceId: Uint8Array;
}

/** Certificates and revocation lists of a vTPM attestation key. */
export interface TpmCollateral {
  /** PEM: intermediates, perhaps the root. */
  readonly certChainPem: string;
  /** DER, one per certificate that names a distribution point. */
  readonly crls: readonly Uint8Array[];
  readonly rootCaCrl?: Uint8Array;
  /** Google's firmware endorsement of the MRTD (docs/protocol/verification.md section 4 step 11), a protobuf. */
  readonly firmwareEndorsement?: Uint8Array;
}

export interface TpmCollateralRequest {
  /** DER of the AK certificate. */
  readonly akCert: Uint8Array;
  /** 48 bytes, when a firmware endorsement is wanted too. */
  readonly mrtd?: Uint8Array;
}

/** Certificates of an SEV-SNP report that came without them. */
export interface SnpCollateral {
  /** DER or PEM; a PEM text may hold others beside, as AMD's `cert_chain` does. */
  readonly ask: Uint8Array;
  readonly vcek: Uint8Array;
  readonly crl?: Uint8Array;
}

export interface SnpCollateralRequest {
  readonly product: 'Milan' | 'Genoa' | 'Turin';
  /** 64 bytes. */
  readonly chipId: Uint8Array;
  /** 8 bytes. */
  readonly reportedTcb: Uint8Array;
}

/** Services that are asked because evidence came that needs their statements. */
export type CollateralVendor = 'intel' | 'google' | 'amd';

/**
 * Called before requests go to a vendor for the sake of one piece of evidence: whoever showed it chose what to ask for.
 * Refuses by throwing an AttestationError `collateral-unavailable`.
 */
export type FetchPermit = (vendor: CollateralVendor, requests: number) => void;

/** Where collateral comes from: Intel's service or a cache of it, a file, a bundle. */
export interface CollateralSource {
  tdx(request: DcapCollateralRequest, permit?: FetchPermit): Promise<DcapCollateral>;
  /** Whether `tdx` would answer without asking anybody; a source that never asks need not say. */
  atHand?(request: DcapCollateralRequest): boolean;
  /** PEM chain (leaf first) for quotes that carry an encrypted PPID instead. */
  pckCertificate?(request: PckCertificateRequest, permit?: FetchPermit): Promise<string>;
  tpm?(request: TpmCollateralRequest, permit?: FetchPermit): Promise<TpmCollateral>;
  snp?(request: SnpCollateralRequest, permit?: FetchPermit): Promise<SnpCollateral>;
  /** DER of a CRL by its distribution point URL, for platforms where it is optional. */
  crl?(url: string): Promise<Uint8Array>;
  /**
   * Told what became of an answer, by the object that was given: a source keeps what verified, and drops what is not
   * authentic. Answers that failed only together with what the prover sent count neither way.
   */
  settled?(answer: object, isGood: boolean): Promise<void>;
}

/** Tells several sources; each knows its own answers. */
export function settledBy(
  ...sources: readonly Pick<CollateralSource, 'settled'>[]
): NonNullable<CollateralSource['settled']> {
  return async (answer, isGood) => {
    await Promise.all(sources.map(async (source) => source.settled?.(answer, isGood)));
  };
}

/** Everything of Intel's that judging a quote needs besides the quote (chapter 20 section 3.1). */
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
  /** Google's firmware endorsement of the MRTD (chapter 20 section 7.4), a protobuf. */
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
  /** DER or PEM. */
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

/** Where collateral comes from: Intel's service or a cache of it, a file, a bundle. */
export interface CollateralSource {
  tdx(request: DcapCollateralRequest): Promise<DcapCollateral>;
  /** Whether `tdx` would answer without asking anybody; a source that never asks need not say. */
  atHand?(request: DcapCollateralRequest): boolean;
  /** Called when a set turned out not to be authentic: a source that keeps sets drops it. */
  forget?(request: DcapCollateralRequest): Promise<void>;
  /** PEM chain (leaf first) for quotes that carry an encrypted PPID instead. */
  pckCertificate?(request: PckCertificateRequest): Promise<string>;
  tpm?(request: TpmCollateralRequest): Promise<TpmCollateral>;
  snp?(request: SnpCollateralRequest): Promise<SnpCollateral>;
  /** DER of a CRL by its distribution point URL, for platforms where it is optional. */
  crl?(url: string): Promise<Uint8Array>;
}

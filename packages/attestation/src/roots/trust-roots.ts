/** One certificate that everything else is verified against. */
export interface TrustRoot {
  readonly name: string;
  /** DER of the certificate. */
  readonly der: Uint8Array;
  /** True when this is not the vendor's own root: the result then says `simulated`. */
  readonly simulated: boolean;
}

/** The roots of each platform. */
export interface TrustRoots {
  readonly tdx: readonly TrustRoot[];
  readonly gcpTpm: readonly TrustRoot[];
  readonly nitro: readonly TrustRoot[];
  readonly nitroTpm: readonly TrustRoot[];
  readonly sevSnp: {
    readonly milan: readonly TrustRoot[];
    readonly genoa: readonly TrustRoot[];
    readonly turin: readonly TrustRoot[];
  };
}

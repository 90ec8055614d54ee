/** One certificate that everything else is judged against. */
export interface TrustRoot {
  readonly name: string;
  /** DER of the certificate. */
  readonly der: Uint8Array;
  /** True when this is not the vendor's own root: the verdict then says `simulated`. */
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

/**
 * The same roots with one more TDX root, from configuration.
 * @param der DER of the root certificate; marked `simulated` unless it is byte for byte Intel's.
 */
export function withTdxRoot(roots: TrustRoots, der: Uint8Array, name = 'configured TDX root'): TrustRoots {
  const known = roots.tdx.find((root) => sameBytes(root.der, der));
  if (known) return roots;
  return { ...roots, tdx: [...roots.tdx, { name, der, simulated: true }] };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

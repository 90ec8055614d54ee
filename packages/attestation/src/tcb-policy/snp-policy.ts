import type { SnpProduct } from '../platform-evidence.ts';

/** The parts of a TCB version by name; `fmc` on Turin only. */
export type SnpTcbParts = {
  readonly [part in 'fmc' | 'bootLoader' | 'tee' | 'snp' | 'microcode']?: number | undefined;
};

/** Local policy on an AMD platform; it never touches evidence. */
export interface SnpPolicy {
  /** The reported TCB must be this or newer in each part that is named; products that are not named: any. */
  readonly minimumTcb?: { readonly [product in SnpProduct]?: SnpTcbParts | undefined } | undefined;
  /** Accept platforms whose firmware did not check memory for aliases; default false. */
  readonly acceptUncheckedAliases?: boolean | undefined;
}

/** What the policy looks at: of a verified report. */
export interface SnpLevel {
  readonly product: SnpProduct;
  readonly reportedTcb: SnpTcbParts;
  /** PLATFORM_INFO: firmware found no two addresses of one place in memory since it started. */
  readonly aliasCheckComplete: boolean;
  /** No hardware: there is no memory that could have aliases. */
  readonly simulated: boolean;
}

const PARTS = ['fmc', 'bootLoader', 'tee', 'snp', 'microcode'] as const;

/** Why the platform is not good enough here; nothing when it is. */
export function appraiseSnp(level: SnpLevel, policy: SnpPolicy): string[] {
  const reasons: string[] = [];
  const { product, reportedTcb } = level;
  const minimum = policy.minimumTcb?.[product] ?? {};
  for (const part of PARTS) {
    const wanted = minimum[part];
    const found = reportedTcb[part];
    if (wanted === undefined || (found !== undefined && found >= wanted)) continue;
    reasons.push(`SEV-SNP TCB of ${product}: ${part} ${found ?? 'unknown'} is below ${wanted}`);
  }
  if (!level.aliasCheckComplete && !level.simulated && policy.acceptUncheckedAliases !== true) {
    reasons.push(
      'The firmware did not check memory for aliases (PLATFORM_INFO.ALIAS_CHECK_COMPLETE, AMD-SB-3015): update it',
    );
  }
  return reasons;
}

/** The policy as configuration files write it. */
export interface SnpPolicyConfig {
  readonly minimum_tcb?: { readonly [product in SnpProduct]?: SnpTcbConfig | undefined } | undefined;
  readonly accept_unchecked_aliases?: boolean | undefined;
}

type SnpTcbConfig = Omit<SnpTcbParts, 'bootLoader'> & { readonly boot_loader?: number | undefined };

export function snpPolicyFromConfig(config: SnpPolicyConfig): SnpPolicy {
  const { Milan, Genoa, Turin } = config.minimum_tcb ?? {};
  const parts = (named: SnpTcbConfig = {}): SnpTcbParts => {
    const { boot_loader: bootLoader, ...others } = named;
    return { ...others, bootLoader };
  };
  return {
    acceptUncheckedAliases: config.accept_unchecked_aliases,
    minimumTcb: { Milan: parts(Milan), Genoa: parts(Genoa), Turin: parts(Turin) },
  };
}

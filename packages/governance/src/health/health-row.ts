import type { GovernanceFile } from '../governance-file.ts';
import type { Governance } from '../state/read-governance.ts';

/** `unknown` could not be decided, and is no pass. */
export type HealthLevel = 'ok' | 'warning' | 'critical' | 'unknown';

/** One row of the health check. */
export type HealthRow = {
  readonly check: string;
  readonly level: HealthLevel;
  /** What is so, and what to do about it unless it is ok. */
  readonly text: string;
  readonly expected?: string;
  readonly found?: string;
};

/** What is compared with, and read beside the governance itself. */
export type HealthFacts = {
  readonly governance: Governance;
  /** What must be so; without it only what is wrong in itself is found. */
  readonly expected?: GovernanceFile | undefined;
  /** Hashes of the code of releases, with their names. */
  readonly knownCode: ReadonlyMap<string, string>;
  /** Whether the code of a Safe's singleton is Safe's own, by lower-case address of the Safe. */
  readonly safeCode: ReadonlyMap<string, boolean>;
  readonly appImplementationHash?: string | undefined;
  /** Wei, by lower-case address. */
  readonly balances: ReadonlyMap<string, bigint>;
  readonly minBalance: bigint;
  /** Ends of allowances that were found in the logs: what, and the last second. */
  readonly expiries: readonly { readonly what: string; readonly notAfter: bigint }[];
  /** Compose hashes that are allowed now, by lower-case address of the app. */
  readonly liveComposeHashes: ReadonlyMap<string, number>;
  /** What the key service demands (`require_timelock`): seconds, and since when each contract has held that delay. */
  readonly requiredDelay?:
    | { readonly seconds: bigint; readonly since: ReadonlyMap<string, bigint> }
    | undefined;
  /** Whether delays and signers of a network with real value are demanded. */
  readonly isProduction: boolean;
};

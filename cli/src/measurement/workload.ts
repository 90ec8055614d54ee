import type { Address, Hex } from 'viem';

/** For whom contracts allow something: an app of its own, or the key service itself. */
type Role = 'app' | 'kms';

/** What is known of a workload before it is registered. What is not known is undefined. */
export interface Workload {
  readonly role: Role;
  /** In words: where it was read. */
  readonly source: string;
  /** Apps only. */
  readonly appId: Address | undefined;
  readonly composeHash: Hex | undefined;
  readonly osImageHash: Hex;
  /** KMS only. */
  readonly mrAggregated: Hex | undefined;
  readonly deviceId: Hex | undefined;
  /** Undefined before a machine proved it. */
  readonly tcbStatus: string | undefined;
  readonly advisoryIds: readonly string[];
  /** Software instead of a TEE vouches for it, or may. */
  readonly simulated: boolean;
}

/** What the command line says of it. */
export interface WorkloadOptions {
  /** Of dstack-cloud measurement. */
  readonly command: 'register' | 'plan';
  readonly role: Role;
  readonly appId?: string;
  readonly device?: string;
  readonly at?: string;
  readonly allowSimulated: boolean;
}

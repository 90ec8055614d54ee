import type { BootInfo } from '@dstack-cloud/attestation';

/** Whether an application or a KMS asks. */
export type BootKind = 'app' | 'kms';

/** Why a denial is no decision on the workload: the policy itself could not be read reliably. */
export type DecisionFailure = 'stale' | 'no-quorum' | 'unavailable';

/** The answer to "may this workload have keys?". */
export type Decision = {
  readonly allowed: boolean;
  /** Why not; empty when allowed. At most 512 bytes, no control characters, no backend address. */
  readonly reason: string;
  /** App id of the gateway that guests trust; may be empty. */
  readonly gatewayAppId: string;
  /** Block the decision was read at. */
  readonly blockNumber?: bigint;
  /** Key epoch of the application, u32; absent when the source knows none. */
  readonly keyEpoch?: number;
  /** Oldest epoch whose keys are still released, for migration; absent means none but the present one. */
  readonly minKeyEpoch?: number;
  /**
   * Id of the KMS root that the application is held at, hex; absent with `previousKeyRoots` present means the active
   * one, both absent means that the source knows none.
   */
  readonly keyRoot?: string;
  /** Ids of the other roots whose keys are still released, for migration. */
  readonly previousKeyRoots?: readonly string[];
  /** Set when the denial is about the policy source, so that asking again later may help. */
  readonly failure?: DecisionFailure;
};

/** What a policy source says about itself, for GetMeta and `GET /` of the auth API. */
export type PolicyInfo = {
  readonly kmsContract?: string;
  readonly chainId?: number;
  readonly appImplementation?: string;
  readonly gatewayAppId?: string;
  /** Scheme and host only: paths of RPC endpoints hold secrets. */
  readonly ethRpcUrl?: string;
};

/** One source of decisions: chain, webhook, allow-list or dev. */
export interface Policy {
  /**
   * Decide about verified facts. Never answers from an earlier request's state that could have been revoked.
   * @throws PolicyError `invalid-request` for facts of wrong length, `backend-…` when the source cannot be asked
   */
  authorize(kind: BootKind, info: BootInfo): Promise<Decision>;
  /** @throws PolicyError when the source cannot be asked */
  describe(): Promise<PolicyInfo>;
  /** Release connections. */
  close?(): void;
}

import type { Hex } from 'viem';

/** When something was allowed, by whom, and until when. */
export type Allowance = {
  readonly block: number;
  readonly time: number;
  readonly tx: string;
  /** Last second; 0 for no end. */
  notAfter: number;
};

/** A call that the owner may make after the contract's delay. */
export type Announcement = {
  readonly callHash: string;
  readonly call: Hex;
  readonly block: number;
  readonly time: number;
  readonly tx: string;
  readonly sender: string;
};

/** Who rules a contract, and which code it has. */
export type Ruled = {
  owner: string;
  pendingOwner: string;
  implementation: string;
  /** Seconds that a loosening of the policy has to be announced before. */
  policyDelay: number;
  /** Calls that are announced, by their hash. */
  readonly announced: Map<string, Announcement>;
  readonly guardians: Set<string>;
};

export type KmsModel = Ruled & {
  appImplementation: string;
  gatewayAppId: string;
  rootKey: string;
  paused: boolean;
  readonly images: Map<string, Allowance>;
  readonly measurements: Map<string, Allowance>;
  readonly devices: Map<string, Allowance>;
  readonly deniedAdvisories: Map<string, string>;
};

export type AppModel = Ruled & {
  registered: boolean;
  /** Made by the factory of the KMS, so that its events are known from the first on. */
  fromFactory: boolean;
  blocked: boolean;
  notAfter: number;
  allowAnyDevice: boolean;
  requireTcb: boolean;
  upgradesDisabled: boolean;
  readonly composeHashes: Map<string, Allowance>;
  readonly devices: Map<string, Allowance>;
};

type ScheduledCall = { readonly target: Hex; readonly value: string; readonly data: Hex };

type Operation = {
  readonly id: string;
  /** By their index; a batch has several. */
  readonly calls: ScheduledCall[];
  readonly predecessor: string;
  readonly delay: number;
  readonly scheduled: {
    readonly block: number;
    readonly time: number;
    readonly tx: string;
    readonly sender: string;
  };
  /** Unix seconds. */
  readonly readyAt: number;
  state: 'pending' | 'done' | 'cancelled';
  ended: { readonly time: number; readonly tx: string } | undefined;
};

export type TimelockModel = {
  minDelay: number;
  /** Accounts by role (32 bytes of hex). */
  readonly roles: Map<string, Set<string>>;
  readonly operations: Map<string, Operation>;
};

export type SafeModel = {
  readonly owners: Set<string>;
  threshold: number;
  readonly modules: Set<string>;
  guard: string;
  /** Transactions executed, failed ones among them. */
  executed: number;
  /** When an owner last signed, approved or executed something. */
  readonly lastSeen: Map<string, number>;
  /** Owners by the transaction hash that they approved on chain and that is not executed yet. */
  readonly approvals: Map<string, { readonly time: number; readonly owners: Set<string> }>;
};

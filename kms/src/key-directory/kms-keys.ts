import type { P256Key, RootKeys } from '@dstack-cloud/keys';

/** A certificate authority of the KMS: its key and its certificate in DER. */
export type Authority = { readonly key: P256Key; readonly certificate: Uint8Array };

/** Public part of a bootstrap, kept in `bootstrap-info.json`. */
export type BootstrapInfo = {
  /** DER SubjectPublicKeyInfo, 91 bytes. */
  readonly caPubkey: Uint8Array;
  /** Compressed, 33 bytes. */
  readonly k256Pubkey: Uint8Array;
  /** Versioned attestation, or empty. */
  readonly attestation: Uint8Array;
};

/** One root of this KMS: all that keys are derived from and signed with. */
export type Root = {
  /** 20 bytes in hex; see `rootId`. */
  readonly id: string;
  readonly roots: RootKeys;
  /** Compressed public part of the k256 root, 33 bytes. */
  readonly k256Pubkey: Uint8Array;
  readonly rootCa: Authority;
  readonly bootstrapInfo: BootstrapInfo | undefined;
};

/** A root that another one took the place of. */
export type RetiredRoot = Root & {
  /** Id of the root that came after it. */
  readonly successor: string;
};

/** Everything in a key directory. What it says of a root, it says of the active one. */
export type KmsKeys = Root & {
  readonly tempCa: Authority;
  readonly rpcKey: P256Key;
  readonly domain: string;
  /** Retired roots, the newest first. */
  readonly history: readonly RetiredRoot[];
};

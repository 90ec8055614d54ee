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

/** Everything in a key directory. */
export type KmsKeys = {
  readonly roots: RootKeys;
  /** Compressed public part of the k256 root, 33 bytes. */
  readonly k256Pubkey: Uint8Array;
  readonly rootCa: Authority;
  readonly tempCa: Authority;
  readonly rpcKey: P256Key;
  readonly domain: string;
  readonly bootstrapInfo: BootstrapInfo | undefined;
};

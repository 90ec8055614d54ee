/** Numbers of TCG TPM 2.0 Part 2 (structures) and Part 3 (commands) that the client uses. */
export const TAG = { noSessions: 0x8001, sessions: 0x8002 } as const;

export const COMMAND = {
  evictControl: 0x120,
  nvUndefineSpace: 0x122,
  nvDefineSpace: 0x12a,
  createPrimary: 0x131,
  nvWrite: 0x137,
  dictionaryAttackLockReset: 0x139,
  startup: 0x144,
  certifyCreation: 0x14a,
  nvRead: 0x14e,
  create: 0x153,
  load: 0x157,
  quote: 0x158,
  unseal: 0x15e,
  flushContext: 0x165,
  loadExternal: 0x167,
  nvReadPublic: 0x169,
  policyAuthorize: 0x16a,
  policyOr: 0x171,
  readPublic: 0x173,
  startAuthSession: 0x176,
  verifySignature: 0x177,
  getCapability: 0x17a,
  getRandom: 0x17b,
  pcrRead: 0x17e,
  policyPcr: 0x17f,
  pcrExtend: 0x182,
  policyGetDigest: 0x189,
} as const;

export const HANDLE = {
  owner: 0x40000001,
  null: 0x40000007,
  password: 0x40000009,
  lockout: 0x4000000a,
  endorsement: 0x4000000b,
  platform: 0x4000000c,
} as const;

export const ALG = {
  aes: 0x0006,
  sha256: 0x000b,
  sha384: 0x000c,
  null: 0x0010,
  ecdsa: 0x0018,
  ecc: 0x0023,
  cfb: 0x0043,
} as const;
/** TPM_ECC_NIST_P256. */
export const CURVE_P256 = 0x0003;

/** Hash algorithms of PCR banks, with their sizes in bytes. */
export const BANKS: Readonly<Record<PcrBank, { readonly id: number; readonly size: number }>> = {
  sha256: { id: ALG.sha256, size: 32 },
  sha384: { id: ALG.sha384, size: 48 },
};
export type PcrBank = 'sha256' | 'sha384';

/** Response codes (Part 2 section 6.6.3). */
export const RC = {
  success: 0,
  /** TPM_RC_INITIALIZE: a Startup that was not needed. */
  initialize: 0x100,
  yielded: 0x908,
  testing: 0x90a,
  /** TPM_RC_NV_RATE and TPM_RC_NV_UNAVAILABLE: NV memory takes no command just now. */
  nvRate: 0x920,
  nvUnavailable: 0x923,
  lockout: 0x921,
  retry: 0x922,
  /** TPM_RC_HANDLE for the first handle: nothing is there. */
  handle1: 0x18b,
  handle2: 0x28b,
} as const;

/** Attributes of dstack's NV indices: TPMA_NV_OWNERWRITE | TPMA_NV_OWNERREAD. */
export const NV_OWNER_ATTRIBUTES: number = 0x00020002;

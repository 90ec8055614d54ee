import { concatBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';

/** Storage slots of the contracts. A slot is a number of 256 bits. */
export const kmsSlot = {
  gatewayAppId: 4n,
  registeredApps: 5n,
  kmsAllowedAggregatedMrs: 6n,
  kmsAllowedDeviceIds: 7n,
  allowedOsImages: 8n,
  appImplementation: 9n,
} as const;

export const appSlot = {
  allowedComposeHashes: 0n,
  /** Byte 0 `_upgradesDisabled`, byte 1 `allowAnyDevice`. */
  flags: 1n,
  allowedDeviceIds: 2n,
  /** Byte 0; from the 0.6 line's successors on. */
  requireTcbUpToDate: 3n,
} as const;

const kmsExtension = 0x73d0001025a09922cc035ecb5964a5e707f8610a2012e1cf98cf6a27908dfb00n;
const appExtension = 0x451ed33d735f5df28dda509c37110ec8f232f1d0ad223da5b44858684af11800n;

/** `dstack.storage.DstackKmsExt` (ERC-7201), from version 3 on. */
export const kmsExtensionSlot: Readonly<
  Record<'state' | 'blocked' | 'osNotAfter' | 'appNotAfter' | 'deniedAdvisories', bigint>
> = {
  /** Bytes 0 to 7 `epoch`, byte 8 `paused`. */
  state: kmsExtension,
  blocked: kmsExtension + 2n,
  osNotAfter: kmsExtension + 3n,
  appNotAfter: kmsExtension + 4n,
  deniedAdvisories: kmsExtension + 5n,
};

/** `dstack.storage.DstackAppExt` (ERC-7201), from version 3 on. */
export const appExtensionSlot: Readonly<Record<'composeNotAfter', bigint>> = {
  composeNotAfter: appExtension + 2n,
};

/** Where an ERC-1967 proxy keeps the address of its implementation. */
export const IMPLEMENTATION_SLOT = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbcn;

/** Slot of a mapping's value for `key`, which is at most 32 bytes and padded on the left. */
export function mappingSlot(key: Uint8Array, mapping: bigint): bigint {
  const padded = new Uint8Array(32);
  padded.set(key, 32 - key.length);
  return toSlot(keccak256(concatBytes(padded, slotBytes(mapping))));
}

/** First of the slots with the bytes of a `string` or `bytes` that is too long for its own. */
export function contentSlot(slot: bigint): bigint {
  return toSlot(keccak256(slotBytes(slot)));
}

/** 32 bytes, as nodes and tries want them. */
export function slotBytes(slot: bigint): Uint8Array {
  return fromHex(BigInt.asUintN(256, slot).toString(16).padStart(64, '0'));
}

function toSlot(bytes: Uint8Array): bigint {
  return BigInt(`0x${toHex(bytes)}`);
}

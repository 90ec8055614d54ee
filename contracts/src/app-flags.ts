import type { Hex } from 'viem';

/** Where DstackApp of every line keeps `_upgradesDisabled` (byte 0) and `allowAnyDevice` (byte 1). */
export const APP_FLAGS_SLOT: Hex = `0x${'1'.padStart(64, '0')}`;

/**
 * Whether the code of an app is fixed, also of one whose code has no function for it.
 * @param word of the slot
 * @param allowAnyDevice as the contract answers
 * @returns undefined when the storage is not that of a DstackApp
 */
export function upgradesDisabledFrom(word: Hex, allowAnyDevice: boolean): boolean | undefined {
  const [, any, disabled] = /^0x0{60}0([01])0([01])$/.exec(word) ?? [];
  if (any === undefined || (any === '1') !== allowAnyDevice) return undefined;
  return disabled === '1';
}

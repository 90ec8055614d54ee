import { IMPLEMENTATION_SLOT } from './slots.ts';
import type { Storage } from './solidity-text.ts';

/** `dstack.storage.PolicyDelay` (ERC-7201), from version 3.1 on, of DstackKms and DstackApp alike. */
const base = 0xd611bd2baa7e60ab444b119f78bb875b950591ea25ff5a1bf49fdbaacb314d00n;
/** Four `uint64` from the lowest byte on: `delay`, `since`, `previousDelay`, `previousSince`. */
const delays = base;
/** Bytes 0 to 19 `guarded`. */
const guarded = base + 1n;

/** What `delaySince` reads. */
export const delaySlots: readonly bigint[] = [delays, guarded, IMPLEMENTATION_SLOT];

/** `policyDelaySince` of the contracts, from their storage. */
export function delaySince(storage: Storage, required: number): bigint {
  const word = storage(delays);
  const [delay, since, previousDelay, previousSince] = [0n, 64n, 128n, 192n].map((shift) =>
    BigInt.asUintN(64, word >> shift),
  ) as [bigint, bigint, bigint, bigint];
  const demanded = BigInt(required);
  const address = BigInt.asUintN(160, storage(guarded));
  if (demanded === 0n || delay < demanded) return 0n;
  if (address !== BigInt.asUintN(160, storage(IMPLEMENTATION_SLOT))) return 0n;
  return previousDelay < demanded ? since : previousSince;
}

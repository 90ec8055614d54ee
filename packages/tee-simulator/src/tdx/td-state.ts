import { fromHex } from '@dstack-cloud/encoding';

/** What a TD report says about the TD (docs/protocol/evidence.md section 8). Sizes in bytes; absent fields are zero. */
export interface TdState {
  /** 48 */
  readonly mrTd: Uint8Array;
  /** 4 times 48 */
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  /** 48 each */
  readonly mrConfigId?: Uint8Array;
  readonly mrOwner?: Uint8Array;
  readonly mrOwnerConfig?: Uint8Array;
  /** 8; default: only SEPT_VE_DISABLE. */
  readonly tdAttributes?: Uint8Array;
}

/** SEPT_VE_DISABLE, bit 28: what a production TD has. */
export const PRODUCTION_ATTRIBUTES: Uint8Array = fromHex('0000001000000000');
/** The same with DEBUG, bit 0. */
export const DEBUG_ATTRIBUTES: Uint8Array = fromHex('0100001000000000');

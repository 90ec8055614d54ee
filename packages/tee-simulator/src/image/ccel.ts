import { ByteWriter, utf8 } from '@dstack-cloud/encoding';
import type { SimulatedBootEvent } from './simulated-image.ts';

const EV_NO_ACTION = 3;
const TPM_ALG_SHA384 = 0x000c;
const SHA1_BYTES = 20;
const SHA384_BYTES = 48;
const PADDING = 64;

/**
 * The events as the firmware's CCEL area holds them: Spec ID header, TCG2 records, FF padding
 * (docs/protocol/event-logs.md section 2.1).
 */
export function writeCcel(events: readonly SimulatedBootEvent[]): Uint8Array {
  const specId = new ByteWriter()
    .bytes(utf8('Spec ID Event03\0'))
    .u32le(0)
    .u8(0)
    .u8(2)
    .u8(0)
    .u8(2)
    .u32le(1)
    .u16le(TPM_ALG_SHA384)
    .u16le(SHA384_BYTES)
    .u8(0)
    .finish();
  const writer = new ByteWriter()
    .u32le(1)
    .u32le(EV_NO_ACTION)
    .bytes(new Uint8Array(SHA1_BYTES))
    .u32le(specId.length)
    .bytes(specId);
  for (const { rtmr, type, digest, data } of events) {
    writer
      .u32le(rtmr + 1)
      .u32le(type)
      .u32le(1)
      .u16le(TPM_ALG_SHA384)
      .bytes(digest)
      .u32le(data.length)
      .bytes(data);
  }
  return writer.bytes(new Uint8Array(PADDING).fill(0xff)).finish();
}

import { ByteWriter } from '@dstack-cloud/encoding';

const HANDOFF = 1;
const RESOURCE = 3;
const HANDOFF_LENGTH = 56;
const RESOURCE_LENGTH = 48;
const HOB_VERSION = 9;
const SYSTEM_MEMORY = 0;
const UNACCEPTED = 7;
/** present, initialised, tested */
const ATTRIBUTES = 7;
/** From this memory size on, QEMU's q35 moves everything above 2 GiB behind the 4 GiB line. */
const LOW_MEMORY_LIMIT = 0xb000_0000n;
const LOW_MEMORY_END = 0x8000_0000n;
const HIGH_MEMORY = 0x1_0000_0000n;

/** Where the firmware's TD HOB and temporary memory lie: all that the list depends on beside the memory size. */
export interface TdHobLayout {
  /** Address of the hand-off block. */
  readonly tdHob: bigint;
  /** Accepted ranges, ascending. */
  readonly accepted: readonly { readonly start: bigint; readonly length: bigint }[];
}

/**
 * The hand-off block list that the firmware measures first (docs/protocol/images.md section 4.5); no end block is
 * hashed.
 */
export function tdHobList(layout: TdHobLayout, memorySize: bigint): Uint8Array {
  const resources = memoryMap(layout, memorySize);
  const length = HANDOFF_LENGTH + resources.length * RESOURCE_LENGTH;
  const writer = new ByteWriter()
    .u16le(HANDOFF)
    .u16le(HANDOFF_LENGTH)
    .u32le(0)
    .u32le(HOB_VERSION)
    .bytes(new Uint8Array(36)) // boot mode and four memory bounds
    .u64le(layout.tdHob + BigInt(length) + 8n);
  for (const { type, start, end } of resources) {
    writer
      .u16le(RESOURCE)
      .u16le(RESOURCE_LENGTH)
      .u32le(0)
      .bytes(new Uint8Array(16))
      .u32le(type)
      .u32le(ATTRIBUTES)
      .u64le(start)
      .u64le(end - start);
  }
  return writer.finish();
}

interface Resource {
  readonly type: number;
  readonly start: bigint;
  readonly end: bigint;
}

function memoryMap(layout: TdHobLayout, memorySize: bigint): Resource[] {
  const map: Resource[] = [];
  let position = 0n;
  for (const { start, length } of layout.accepted) {
    if (start > position) map.push({ type: UNACCEPTED, start: position, end: start });
    map.push({ type: SYSTEM_MEMORY, start, end: start + length });
    position = start + length;
  }
  if (memorySize < LOW_MEMORY_LIMIT) return [...map, { type: UNACCEPTED, start: position, end: memorySize }];
  const highEnd = HIGH_MEMORY + memorySize - LOW_MEMORY_END;
  return [
    ...map,
    { type: UNACCEPTED, start: position, end: LOW_MEMORY_END },
    { type: UNACCEPTED, start: HIGH_MEMORY, end: highEnd },
  ];
}

const PAGE = 4096n;

/** The layout as the measurement document carries it: LEB128 numbers of pages (docs/protocol/images.md section 4.5). */
export function encodeTdHobLayout({ tdHob, accepted }: TdHobLayout): Uint8Array {
  const base = accepted[0]?.start ?? tdHob;
  const numbers = [
    base / PAGE,
    (tdHob - base) / PAGE,
    BigInt(accepted.length),
    ...accepted.flatMap(({ start, length }) => [(start - base) / PAGE, length / PAGE]),
  ];
  return Uint8Array.from(numbers.flatMap(leb128));
}

function leb128(value: bigint): number[] {
  const low = Number(value & 0x7fn);
  return value < 0x80n ? [low] : [low | 0x80, ...leb128(value >> 7n)];
}

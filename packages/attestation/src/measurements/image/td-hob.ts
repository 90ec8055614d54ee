import { ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import type { TdxMeasurementDocument } from './tdx-document.ts';

/** HOB types and fields: UEFI PI specification volume 3 sections 5.2, 5.3 and 5.5. */
const HANDOFF = { type: 1, bytes: 56, version: 9 } as const;
const RESOURCE = { type: 3, bytes: 48, attributes: 7 } as const;
const SYSTEM_MEMORY = 0;
const UNACCEPTED_MEMORY = 7;
/** QEMU keeps [2 GiB, 4 GiB) free for devices once memory reaches 2.75 GiB. */
const HOLE_THRESHOLD = 0xb0000000;
const BELOW_4G = 0x80000000;
const ABOVE_4G = 0x100000000;
const MAX_MEMORY = 2 ** 46;

interface Resource {
  readonly type: number;
  readonly start: number;
  readonly end: number;
}

/**
 * The HOB list that the VMM's firmware measures first into RTMR0, for this amount of memory. No end HOB is
 * hashed (docs/protocol/images.md section 4.5).
 * @param memory bytes
 * @throws AttestationError `image`
 */
export function tdHobList(hob: TdxMeasurementDocument['hob'], memory: number): Uint8Array {
  if (!Number.isSafeInteger(memory) || memory < 0 || memory > MAX_MEMORY) {
    throw new AttestationError('image', 'memory_size is no amount of memory', { found: String(memory) });
  }
  const resources = memoryResources(hob, memory);
  const length = HANDOFF.bytes + RESOURCE.bytes * resources.length;
  const writer = new ByteWriter();
  writer.u16le(HANDOFF.type);
  writer.u16le(HANDOFF.bytes);
  writer.u32le(0);
  writer.u32le(HANDOFF.version);
  writer.bytes(new Uint8Array(36)); // Boot mode and memory bounds stay zero.
  writer.u64le(BigInt(hob.address + length + 8)); // EfiEndOfHobList.
  for (const resource of resources) {
    writer.u16le(RESOURCE.type);
    writer.u16le(RESOURCE.bytes);
    writer.u32le(0);
    writer.bytes(new Uint8Array(16)); // Owner.
    writer.u32le(resource.type);
    writer.u32le(RESOURCE.attributes);
    writer.u64le(BigInt(resource.start));
    writer.u64le(BigInt(resource.end - resource.start));
  }
  return writer.finish();
}

/** [0, memory) cut at the accepted ranges; the last piece is cut again at the hole below 4 GiB. */
function memoryResources(hob: TdxMeasurementDocument['hob'], memory: number): Resource[] {
  const accepted = [...hob.accepted].sort((a, b) => a.start - b.start);
  const resources: Resource[] = [];
  let end = 0;
  for (const range of accepted) {
    if (range.start < end || range.end <= range.start || range.end > BELOW_4G) {
      throw new AttestationError('malformed', 'TD HOB description with overlapping or empty ranges');
    }
    if (range.start > end) resources.push({ type: UNACCEPTED_MEMORY, start: end, end: range.start });
    resources.push({ type: SYSTEM_MEMORY, start: range.start, end: range.end });
    end = range.end;
  }
  if (end > memory) {
    throw new AttestationError('image', 'memory_size is less than what the firmware needs', {
      expected: `>= ${end}`,
      found: String(memory),
    });
  }
  if (memory < HOLE_THRESHOLD) {
    if (end < memory) resources.push({ type: UNACCEPTED_MEMORY, start: end, end: memory });
    return resources;
  }
  resources.push(
    { type: UNACCEPTED_MEMORY, start: end, end: BELOW_4G },
    { type: UNACCEPTED_MEMORY, start: ABOVE_4G, end: ABOVE_4G + (memory - BELOW_4G) },
  );
  return resources;
}

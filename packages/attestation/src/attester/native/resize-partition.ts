import { deviceIoctl } from './ioctl.ts';
import { requireNativeCalls } from './koffi.ts';

/** linux/blkpg.h */
const BLKPG = 0x1269;
const BLKPG_RESIZE_PARTITION = 3;
const PARTITION_BYTES = 152;
const ARGUMENT_BYTES = 24;

/** A partition as the kernel is told of it; bytes. */
export interface PartitionExtent {
  /** Its number in the table. */
  readonly number: number;
  readonly start: number;
  readonly size: number;
}

/** Has the kernel take a partition for larger, also while it is in use; the table on the disk stays. @throws AttestationError `device` */
export async function resizePartition(disk: string, { number, start, size }: PartitionExtent): Promise<void> {
  const { koffi } = await requireNativeCalls(`Resizing a partition of ${disk}`);
  const partition = new Uint8Array(PARTITION_BYTES);
  const fields = new DataView(partition.buffer);
  fields.setBigInt64(0, BigInt(start), true);
  fields.setBigInt64(8, BigInt(size), true);
  fields.setInt32(16, number, true);
  const memory = koffi.alloc('uint8_t', PARTITION_BYTES);
  try {
    koffi.encode(memory, 'uint8_t', partition, PARTITION_BYTES);
    const argument = new DataView(new ArrayBuffer(ARGUMENT_BYTES));
    argument.setInt32(0, BLKPG_RESIZE_PARTITION, true);
    argument.setInt32(8, PARTITION_BYTES, true);
    argument.setBigUint64(16, BigInt(koffi.address(memory)), true);
    await deviceIoctl(disk, BLKPG, new Uint8Array(argument.buffer));
  } finally {
    koffi.free(memory);
  }
}

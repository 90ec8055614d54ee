import { GuestError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import type { BlockDevice } from './block-devices.ts';
import type { MachineHost } from './machine-host.ts';

/** Room that stays at the end of a disk, where a partition table has its second copy, bytes. */
const TABLE_BYTES = 1024 * 1024;

/**
 * Lets a partition that is the last one reach to the end of a disk that has grown. Only the kernel is told: the table on
 * the disk stays as it is, so a power cut can damage nothing, and the next boot says it again.
 *
 * @throws GuestError `disk-failed`
 */
export async function growPartition(
  name: string,
  devices: readonly BlockDevice[],
  host: MachineHost,
  log: Logger,
): Promise<void> {
  const partition = devices.find((one) => one.name === name);
  if (partition?.disk === undefined || partition.number === undefined) return;
  const disk = devices.find((one) => one.name === partition.disk);
  if (disk === undefined) return;
  const isLast = devices.every((one) => one.disk !== disk.name || one.start <= partition.start);
  const end = Math.floor((disk.size - TABLE_BYTES) / TABLE_BYTES) * TABLE_BYTES;
  const size = end - partition.start;
  if (!isLast || size <= partition.size) return;
  const { number, start } = partition;
  try {
    await host.resizePartition(`/dev/${disk.name}`, { number, start, size });
  } catch (cause) {
    throw new GuestError(
      'disk-failed',
      `Partition ${name} cannot be made larger: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
  log.info({ partition: name, bytes: size }, 'Data partition reaches to the end of its disk');
}

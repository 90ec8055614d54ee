import { writeFileAtomic } from '@dstack-cloud/app';
import { writeFat32 } from '@dstack-cloud/os-image';

/** Larger than all host-shared files may be together. */
const SIZE = 8 * 1024 * 1024;
/** By which the guest knows the disk, beside its serial number. */
const LABEL = 'DSTACKSHR';
const VOLUME_ID = 0xd57a_c000;

/** Writes the disk by which the host hands files to the guest; whole, or not at all. */
export async function writeSharedDisk(
  path: string,
  files: Readonly<Record<string, Uint8Array | undefined>>,
): Promise<void> {
  const present = Object.entries(files).flatMap(([name, data]) =>
    data === undefined ? [] : [{ path: name, data }],
  );
  const volume = writeFat32({ size: SIZE, label: LABEL, volumeId: VOLUME_ID, files: present });
  await writeFileAtomic(path, volume, { mode: 0o600 });
}

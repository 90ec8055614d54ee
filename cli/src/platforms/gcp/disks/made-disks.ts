import { HOST_SHARED_LIMITS } from '@dstack-cloud/app';
import { writeFat32, writeGpt } from '@dstack-cloud/os-image';
import type { Prepared } from '../../../project/shared-files.ts';
import { type DiskPiece, diskArchive } from './disk-archive.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const SECTOR = 512;
/** A volume of fewer clusters is FAT16 to those who count them. */
const SHARED_BYTES = 64 * MIB;

/** By these the guest knows the disks. */
const SHARED = { label: 'DSTACKSHR', volumeId: 0xd57a_c000, sectorsPerTrack: 32, heads: 8 } as const;
const DATA = {
  name: 'dstack-data',
  typeGuid: '0FC63DAF-8483-4772-8E79-3D69D8477DE4',
  diskGuid: 'd5acc000-0000-4000-8000-000000000010',
  guid: 'd5acc000-0000-4000-8000-000000000011',
} as const;

/** Roots of simulated hardware by the names under which development images look for them; others ignore these files. */
export type SimulatedRoots = Readonly<
  Partial<Record<'simulated-root-ca.pem' | 'simulated-tpm-root-ca.pem', Uint8Array>>
>;

/** The volume by which the machine gets its files. */
export function sharedVolume(files: Prepared['files'], roots: SimulatedRoots = {}): Uint8Array {
  // In the order of the format's own list, so that equal files give equal bytes.
  const present = Object.keys(HOST_SHARED_LIMITS).flatMap((name) => {
    const data = files[name as keyof Prepared['files']];
    return data === undefined ? [] : [{ path: name, data }];
  });
  const simulated = Object.entries(roots).map(([path, data]) => ({ path, data }));
  return writeFat32({ ...SHARED, size: SHARED_BYTES, files: [...present, ...simulated] });
}

/** Archive of the shared disk's image. */
export function sharedArchive(files: Prepared['files'], roots?: SimulatedRoots): AsyncIterable<Uint8Array> {
  return diskArchive(GIB, [{ offset: 0, data: sharedVolume(files, roots) }]);
}

/** Archive of an empty data disk: one partition, by whose name the guest finds it, and which it grows. */
export function dataArchive(): AsyncIterable<Uint8Array> {
  const sectors = BigInt(GIB / SECTOR);
  const { name, typeGuid, diskGuid, guid } = DATA;
  const partition = { name, typeGuid, guid, firstLba: 2048n, lastLba: sectors - 34n };
  const { primary, backup } = writeGpt({ diskGuid, sectors, partitions: [partition] });
  const pieces: DiskPiece[] = [
    { offset: 0, data: primary },
    { offset: GIB - backup.length, data: backup },
  ];
  return diskArchive(GIB, pieces);
}

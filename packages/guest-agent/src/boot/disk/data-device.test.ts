import { utf8 } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from './block-devices.ts';
import { chooseDataDevice } from './data-device.ts';

const GIB = 1024 ** 3;
const disk = (name: string, more: Partial<BlockDevice> = {}): BlockDevice => ({
  name,
  kind: 'disk',
  serial: undefined,
  number: undefined,
  start: 0,
  partitionName: undefined,
  partitionUuid: undefined,
  disk: undefined,
  readOnly: false,
  size: 4 * GIB,
  ...more,
});
const partition = (name: string, of: string, partitionName: string): BlockDevice =>
  disk(name, {
    kind: 'partition',
    disk: of,
    partitionName,
    partitionUuid: '00000000-0000-4000-8000-000000000001',
  });
const root = [disk('vda'), partition('vda2', 'vda', 'dstack-rootfs')];
/** A machine whose disk `vdc` has the shared files. */
const host = {
  read: (path: string) => Promise.resolve(utf8(path === '/dev/vdc' ? 'DSTACKSHR  ' : '\0'.repeat(11))),
};
const choose = (devices: readonly BlockDevice[], argument?: string) =>
  chooseDataDevice(devices, host, argument);

describe('the data device', () => {
  it('is the one disk that is nothing else', async () => {
    const devices = [
      ...root,
      disk('vdb'),
      disk('vdc'),
      disk('vdd', { readOnly: true }),
      disk('vde', { size: 4096 }),
    ];
    expect(await choose(devices)).toEqual({ path: '/dev/vdb', disk: undefined });
  });

  it('is the partition of that name before any empty disk', async () => {
    const devices = [...root, disk('nvme0n1'), partition('nvme0n1p1', 'nvme0n1', 'dstack-data'), disk('vdb')];
    expect(await choose(devices)).toEqual({ path: '/dev/nvme0n1p1', disk: 'nvme0n1' });
  });

  it('is what the command line names', async () => {
    const devices = [...root, disk('vdb'), disk('vdx')];
    expect(await choose(devices, '/dev/vdx')).toEqual({ path: '/dev/vdx', disk: undefined });
    const named = [...root, disk('vdb'), partition('vdb1', 'vdb', 'mine')];
    expect(await choose(named, 'PARTLABEL=mine')).toEqual({ path: '/dev/vdb1', disk: 'vdb' });
    expect(
      await choose(
        [disk('vdb'), partition('vdb1', 'vdb', 'x')],
        'PARTUUID=00000000-0000-4000-8000-000000000001',
      ),
    ).toEqual({
      path: '/dev/vdb1',
      disk: 'vdb',
    });
  });

  it.each([
    ['no disk', [...root], undefined],
    ['two disks', [...root, disk('vdb'), disk('vdd')], undefined],
    [
      'two partitions of the name',
      [partition('vdb1', 'vdb', 'dstack-data'), partition('vdd1', 'vdd', 'dstack-data')],
      undefined,
    ],
    ['the root named as data', [...root], 'PARTLABEL=dstack-rootfs'],
    ['a read-only disk named as data', [...root, disk('vdb', { readOnly: true })], '/dev/vdb'],
    ['a name that nothing has', [...root, disk('vdb')], 'PARTLABEL=missing'],
  ])('is refused with %s', async (_, devices, argument) => {
    await expect(choose(devices, argument)).rejects.toMatchObject({ code: 'disk-refused' });
  });
});

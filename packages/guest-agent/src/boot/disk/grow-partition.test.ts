import { describe, expect, it } from 'vitest';
import { createLogger } from '../../log.ts';
import { DISK, fakeHost } from '../../test/fake-host.ts';
import type { BlockDevice } from './block-devices.ts';
import { growPartition } from './grow-partition.ts';

const MIB = 1024 * 1024;
const log = createLogger('test');
const part = (number: number, start: number, size: number): BlockDevice => ({
  ...DISK,
  kind: 'partition',
  name: `vda${number}`,
  disk: 'vda',
  number,
  start,
  size,
});
const grown = async (...partitions: BlockDevice[]): Promise<string[]> => {
  const devices = [{ ...DISK, size: 100 * MIB }, ...partitions];
  const host = fakeHost({ devices });
  await growPartition('vda1', devices, host, log);
  return host.commands;
};

describe('a data partition', () => {
  it('reaches to the end of a disk that has grown, but for the second copy of the table', async () => {
    expect(await grown(part(1, MIB, 50 * MIB))).toEqual([`resize /dev/vda 1: ${98 * MIB} bytes from ${MIB}`]);
  });
  it('stays when the disk has no more room', async () => {
    expect(await grown(part(1, MIB, 98 * MIB))).toEqual([]);
    expect(await grown(part(1, MIB, 99 * MIB))).toEqual([]);
  });
  it('stays when another one follows', async () => {
    expect(await grown(part(1, MIB, 10 * MIB), part(2, 20 * MIB, MIB))).toEqual([]);
    expect(await grown(part(1, 20 * MIB, 10 * MIB), part(2, MIB, MIB))).toHaveLength(1);
  });
  it('is no whole disk', async () => {
    const host = fakeHost();
    await growPartition('vda', [DISK], host, log);
    expect(host.commands).toEqual([]);
  });
});

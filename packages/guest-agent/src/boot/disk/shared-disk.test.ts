import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DISK, fakeHost } from '../../test/fake-host.ts';
import { mountSharedDisk } from './shared-disk.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'shared-disk-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function labelled(label: string): Uint8Array {
  const sector = new Uint8Array(512);
  sector.set(new TextEncoder().encode(label.padEnd(11)), 71);
  return sector;
}

describe('the disk with the files of the host', () => {
  it.each([
    ['serial number', { ...DISK, name: 'vdc', serial: 'shared' }, {}],
    ['label', { ...DISK, name: 'vdc' }, { '/dev/vdc': labelled('DSTACKSHR') }],
  ])('is found by its %s, and mounted so that only regular files can be read', async (_, disk, content) => {
    const host = fakeHost({ devices: [{ ...DISK, serial: 'data' }, disk], content });
    await mountSharedDisk(host, join(folder, 'at'));
    expect(host.commands).toHaveLength(1);
    expect(host.commands[0]).toMatch(/^mount -t vfat -o ro,nosuid,nodev,noexec,\S* \/dev\/vdc \S*at$/);
  });

  it('is not guessed', async () => {
    const none = fakeHost({ devices: [DISK], content: { '/dev/vda': labelled('DSTACKSHX') } });
    await expect(mountSharedDisk(none, folder)).rejects.toMatchObject({
      code: 'host-shared-invalid',
      found: '0',
    });
    const partition = fakeHost({ devices: [{ ...DISK, kind: 'partition', serial: 'shared' }] });
    await expect(mountSharedDisk(partition, folder)).rejects.toMatchObject({ found: '0' });
    const two = fakeHost({
      devices: [
        { ...DISK, serial: 'shared' },
        { ...DISK, name: 'vdb' },
      ],
      content: { '/dev/vdb': labelled('DSTACKSHR') },
    });
    await expect(mountSharedDisk(two, folder)).rejects.toMatchObject({ found: '2' });
    expect(two.commands).toEqual([]);
  });

  it('that is another file system, which could have links and devices, is refused by its type', async () => {
    // The place of a FAT label is free in ext4: a host can write it there, and give any serial number.
    const disk = { ...DISK, name: 'vdc', serial: 'shared' };
    const content = { '/dev/vdc': labelled('DSTACKSHR') };
    const host = fakeHost({ devices: [disk], content, ran: () => 32 });
    await expect(mountSharedDisk(host, join(folder, 'at'))).rejects.toMatchObject({ code: 'disk-failed' });
    expect(host.commands).toEqual([expect.stringMatching(/^mount -t vfat /)]);
  });
});

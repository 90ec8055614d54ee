import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OsImageError } from '../errors.ts';
import { GPT_BACKUP_SECTORS, type Gpt, readGpt, SECTOR, writeGpt } from './gpt.ts';

const gpt: Gpt = {
  diskGuid: 'd5acc000-0000-4000-8000-000000000000',
  sectors: 40960n,
  partitions: [
    {
      typeGuid: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
      guid: 'd5acc000-0000-4000-8000-000000000001',
      name: 'EFI System Partition',
      firstLba: 2048n,
      lastLba: 20479n,
    },
    {
      typeGuid: '0fc63daf-8483-4772-8e79-3d69d8477de4',
      guid: 'd5acc000-0000-4000-8000-000000000002',
      name: 'dstack-rootfs',
      firstLba: 20480n,
      lastLba: 38911n,
    },
  ],
};

describe('a partition table', () => {
  it('reads back as it was written', () => {
    expect(readGpt(writeGpt(gpt).primary)).toEqual(gpt);
  });

  it('is refused with any one bit of its header or entries changed', () => {
    const { primary } = writeGpt(gpt);
    const used = SECTOR + 92;
    fc.assert(
      fc.property(fc.integer({ min: SECTOR * 8, max: used * 8 - 1 }), (bit) => {
        const bytes = primary.slice();
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        expect(() => readGpt(bytes)).toThrow(OsImageError);
      }),
    );
    const bytes = primary.slice();
    bytes[2 * SECTOR + 40]! ^= 1;
    expect(() => readGpt(bytes)).toThrow(/checksum/);
  });

  it('never throws anything but its own error on arbitrary bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 * SECTOR }), (bytes) => {
        try {
          readGpt(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(OsImageError);
        }
      }),
    );
  });

  it('refuses partitions that overlap or leave the disk', () => {
    const [esp, root] = gpt.partitions as [Gpt['partitions'][0], Gpt['partitions'][0]];
    const layouts = [
      [esp, { ...root, firstLba: esp.lastLba }],
      [{ ...esp, firstLba: 33n }, root],
      [esp, { ...root, lastLba: gpt.sectors - GPT_BACKUP_SECTORS }],
      [{ ...esp, lastLba: esp.firstLba - 1n }],
    ];
    for (const partitions of layouts)
      expect(() => writeGpt({ ...gpt, partitions })).toThrow(/outside of the disk/);
  });
});

describeWithPrograms('a partition table and sgdisk', ['sgdisk'], () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'gpt-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('agree on both copies, the names and the identifiers', () => {
    const { primary, backup } = writeGpt(gpt);
    const disk = new Uint8Array(Number(gpt.sectors) * SECTOR);
    disk.set(primary);
    disk.set(backup, disk.length - backup.length);
    const file = join(folder, 'disk.raw');
    writeFileSync(file, disk);
    expect(execFileSync('sgdisk', ['-v', file], { encoding: 'utf8' })).toContain('No problems found');
    const shown = execFileSync('sgdisk', ['-p', '-i', '2', file], { encoding: 'utf8' });
    expect(shown).toContain('D5ACC000-0000-4000-8000-000000000002');
    expect(shown).toContain("Partition name: 'dstack-rootfs'");
    expect(shown).toContain('First sector: 20480');
  });
});

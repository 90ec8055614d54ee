import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { crc32, createGunzip } from 'node:zlib';
import { concatBytes, utf8 } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootArchive } from './boot-archive.ts';
import { zeroRun } from './crc-of-zeros.ts';
import { diskArchive } from './disk-archive.ts';
import { dataArchive, sharedArchive, sharedVolume } from './made-disks.ts';

const GIB = 1024 ** 3;
const files = {
  'app-compose.json': utf8('{"manifest_version":2}'),
  '.sys-config.json': utf8('{}'),
  '.instance_info': utf8('{"app_id":""}'),
  '.encrypted-env': utf8('sealed'),
  '.user-config': utf8('mine'),
};
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'disk-archive-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function whole(archive: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of archive) parts.push(part);
  return concatBytes(...parts);
}

/** The first bytes of the disk: a GiB of zeros takes its time. */
async function start(archive: AsyncIterable<Uint8Array>, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let got = 0;
  for await (const part of Readable.from(archive).pipe(createGunzip()) as AsyncIterable<Buffer>) {
    parts.push(part);
    got += part.length;
    if (got >= 512 + length) break;
  }
  return Buffer.concat(parts).subarray(512, 512 + length);
}

it.each([0, 1, 7, 511, 4096, 1_000_003])('the checksum of %i zeros is what zlib says', (count) => {
  for (const start of [0, 1, 0xffff_ffff, crc32('dstack')])
    expect(zeroRun(count)(start)).toBe(crc32(new Uint8Array(count), start));
});

describe('the archive of a disk', () => {
  it('is the same for the same disk, and small', async () => {
    const [one, two] = [await whole(sharedArchive(files)), await whole(sharedArchive(files))];
    expect(Buffer.compare(one, two)).toBe(0);
    expect(one.length).toBeLessThan(2 * 1024 * 1024);
  });

  it('holds bytes where they belong, and zeros between', async () => {
    const far = 5 * 1024 * 1024 + 3;
    const pieces = [
      { offset: 10, data: utf8('near') },
      { offset: far, data: utf8('far') },
    ];
    const disk = await start(diskArchive(far + 3, pieces), far + 3);
    expect(disk.toString('latin1', 10, 14)).toBe('near');
    expect(disk.toString('latin1', far)).toBe('far');
    expect(Buffer.compare(disk.subarray(14, far), Buffer.alloc(far - 14))).toBe(0);
  });

  it('refuses pieces that overlap', async () => {
    const pieces = [
      { offset: 10, data: utf8('near') },
      { offset: 12, data: utf8('far') },
    ];
    await expect(whole(diskArchive(GIB, pieces))).rejects.toThrow(/lies before/);
  });
});

it('a shared volume has the documented geometry and short names', () => {
  const volume = Buffer.from(sharedVolume(files));
  expect(volume.readUInt16LE(14)).toBe(32);
  expect(volume.readUInt32LE(36)).toBe(1009);
  expect(volume.readUInt32LE(32)).toBe(131_072);
  expect([volume.readUInt16LE(24), volume.readUInt16LE(26)]).toEqual([32, 8]);
  const root = volume.subarray(2050 * 512);
  const names = [];
  // Checksums of the short names stand in the long ones.
  for (let at = 0; root[at] !== 0; at += 32)
    if (root[at + 11] !== 0x0f) names.push([root.toString('latin1', at, at + 11), root[at - 32 + 13]]);
  expect(names[0]?.[0]).toBe('DSTACKSHR  ');
  expect(Object.fromEntries(names.slice(1))).toEqual({
    'APP-CO~1JSO': 0xff,
    'SYS-CO~1JSO': 0xaf,
    'INSTAN~1   ': 0xa2,
    'ENCRYP~1   ': 0x8c,
    'USER-C~1   ': 0xd8,
  });
});

describeWithPrograms('the disks and the tools for them', ['tar', 'fsck.fat', 'mdir', 'sgdisk'], () => {
  it('agree', async () => {
    const shared = join(folder, 'shared.tar.gz');
    writeFileSync(shared, await whole(sharedArchive(files)));
    expect(execFileSync('tar', ['-tvzf', shared], { encoding: 'utf8' })).toMatch(
      / 1073741824 .* disk\.raw\n$/,
    );
    const volume = join(folder, 'volume');
    writeFileSync(volume, sharedVolume(files));
    execFileSync('fsck.fat', ['-n', volume]);
    const listed = execFileSync('mdir', ['-i', volume, '-a', '-b', '::'], { encoding: 'utf8' });
    expect(listed.trim().split('\n').sort()).toEqual(
      Object.keys(files)
        .map((name) => `::/${name}`)
        .sort(),
    );

    const data = join(folder, 'data.tar.gz');
    writeFileSync(data, await whole(dataArchive()));
    execFileSync('tar', ['-xSzf', data, '-C', folder]);
    const verified = execFileSync('sgdisk', ['-v', '-p', join(folder, 'disk.raw')], { encoding: 'utf8' });
    expect(verified).toContain('No problems found');
    expect(verified).toMatch(/1\s+2048\s+2097118 .* 8300\s+dstack-data/);
  }, 240_000);

  it('give a boot disk back as it was', async () => {
    const disk = join(folder, 'boot.raw');
    const bytes = Buffer.alloc(9 * 1024 * 1024 + 512);
    for (let at = 6 * 1024 * 1024; at < bytes.length; at += 1) bytes[at] = (at * 31) & 0xff;
    writeFileSync(disk, bytes);
    const read = await start(bootArchive(disk, bytes.length), bytes.length);
    expect(Buffer.compare(read, bytes)).toBe(0);
  });
});

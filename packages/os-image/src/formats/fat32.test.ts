import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeFat32 } from './fat32.ts';

const MIB = 1024 * 1024;
const volume = { size: 40 * MIB, label: 'DSTACKSHR', volumeId: 0xd5acc000 };

describe('a FAT32 volume', () => {
  it('is the same for the same files', () => {
    const files = [{ path: 'app-compose.json', data: utf8('{}') }];
    const [one, two] = [writeFat32({ ...volume, files }), writeFat32({ ...volume, files })];
    expect(Buffer.compare(one, two)).toBe(0);
  });

  it.each([
    ['a path that leaves it', '../x'],
    ['an empty name', 'a//b'],
    ['a control character', 'a\nb'],
    ['a name that ends with a dot', 'name.'],
  ])('refuses %s', (_, path) => {
    expect(() => writeFat32({ ...volume, files: [{ path, data: utf8('x') }] })).toThrow(
      /cannot hold the name/,
    );
  });

  it('refuses names that differ in case alone, and files that do not fit', () => {
    const twice = ['A.txt', 'a.TXT'].map((path) => ({ path, data: utf8('x') }));
    expect(() => writeFat32({ ...volume, files: twice })).toThrow(/twice/);
    const large = [{ path: 'LARGE', data: new Uint8Array(2 * MIB) }];
    expect(() => writeFat32({ ...volume, size: MIB, files: large })).toThrow(/no room/);
  });
});

describeWithPrograms('a FAT32 volume and the tools for it', ['fsck.fat', 'mdir', 'mtype'], () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fat-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('agree on names, sizes and contents', () => {
    const large = Uint8Array.from({ length: 3 * MIB + 17 }, (_, i) => (i * 7) & 0xff);
    const files = [
      { path: 'EFI/BOOT/BOOTX64.EFI', data: large },
      { path: '.sys-config.json', data: utf8('{"a":1}') },
      { path: '.instance_info', data: utf8('info') },
      { path: 'app-compose.json', data: utf8('compose') },
      { path: 'a name of twenty-six chars', data: utf8('26') },
      { path: 'EMPTY', data: new Uint8Array(0) },
      ...Array.from({ length: 40 }, (_, i) => ({ path: `many/file-number-${i}.json`, data: utf8(`${i}`) })),
    ];
    const file = join(folder, 'volume');
    writeFileSync(file, writeFat32({ ...volume, files }));
    execFileSync('fsck.fat', ['-n', file]);
    const env = { ...process.env, MTOOLS_SKIP_CHECK: '1' };
    const content = (path: string) =>
      execFileSync('mtype', ['-i', file, `::/${path}`], { env, maxBuffer: 16 * MIB });
    for (const { path, data } of files)
      expect(Buffer.compare(content(path), Buffer.from(data)), path).toBe(0);
    expect(execFileSync('mdir', ['-i', file, '-b', '::/'], { env, encoding: 'utf8' })).toContain(
      '.sys-config.json',
    );
    expect(readFileSync(file).subarray(71, 82).toString()).toBe('DSTACKSHR  ');
  });
});

import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkDataDisk, growDataDisk, makeDataDisk, requireGrowth } from './data-disk.ts';

const GIB = 1024 ** 3;
let dir: string;
let disk: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'data-disk-'));
  disk = join(dir, 'data.img');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('a data disk', () => {
  it('is made without blocks, never in the place of another, and grows only', async () => {
    await makeDataDisk(disk, 2);
    expect(statSync(disk)).toMatchObject({ size: 2 * GIB, blocks: 0 });
    await expect(makeDataDisk(disk, 2)).rejects.toThrow(/EEXIST/);
    await growDataDisk(disk, 3);
    await growDataDisk(disk, 1);
    expect(statSync(disk).size).toBe(3 * GIB);
    await checkDataDisk(disk, 2);
    await checkDataDisk(disk, 3);
    expect(() => requireGrowth(3, 2)).toThrow(/cannot shrink/);
    expect(() => requireGrowth(3, 3)).not.toThrow();
  });

  it('that was cut off, is gone, or is something else starts no machine', async () => {
    await makeDataDisk(disk, 1);
    truncateSync(disk, GIB - 512);
    await expect(checkDataDisk(disk, 1)).rejects.toMatchObject({
      code: 'damaged',
      found: `${GIB - 512} bytes`,
    });
    rmSync(disk);
    await expect(checkDataDisk(disk, 1)).rejects.toMatchObject({ code: 'damaged' });
    writeFileSync(join(dir, 'other'), '');
    truncateSync(join(dir, 'other'), GIB);
    symlinkSync(join(dir, 'other'), disk);
    await expect(checkDataDisk(disk, 1)).rejects.toMatchObject({ code: 'damaged' });
    rmSync(disk);
    mkdirSync(disk);
    await expect(checkDataDisk(disk, 1)).rejects.toMatchObject({ code: 'damaged' });
  });
});

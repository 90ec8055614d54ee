import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../log.ts';
import { fakeHost } from '../../test/fake-host.ts';
import { ext4Bytes, makeSwap, mountExt4 } from './file-system.ts';

const MIB = 1024 * 1024;
const log = createLogger('test');
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'file-system-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A superblock of that many blocks of 4 KiB. */
function superblock(blocks: bigint, has64Bit = true): Uint8Array {
  const bytes = new Uint8Array(1024);
  const view = new DataView(bytes.buffer);
  view.setUint32(4, Number(blocks & 0xffff_ffffn), true);
  view.setUint32(24, 2, true);
  view.setUint16(56, 0xef53, true);
  view.setUint32(96, has64Bit ? 0x80 : 0, true);
  view.setUint32(336, Number(blocks >> 32n), true);
  return bytes;
}

const mounted = async (blocks: bigint | undefined, deviceBytes: bigint): Promise<string[]> => {
  const content = new Uint8Array(2048);
  if (blocks !== undefined) content.set(superblock(blocks), 1024);
  const host = fakeHost({
    content: { '/dev/x': content },
    ran: (program) => (program === 'blockdev' ? `${deviceBytes}\n` : 0),
  });
  await mountExt4({ host, device: '/dev/x', mountPoint: join(folder, 'at'), log }, false);
  return host.commands.map((command) => command.split(' ')[0] ?? '');
};

describe('the file system of the data', () => {
  it('is checked, grown and mounted', async () => {
    expect(await mounted(25600n, 100n * 1024n * 1024n)).toEqual(['blockdev', 'e2fsck', 'resize2fs', 'mount']);
  });
  it('is not touched on a disk that has become smaller', async () => {
    await expect(mounted(25600n, 100n * 1024n * 1024n - 1n)).rejects.toMatchObject({
      code: 'disk-refused',
      message: expect.stringContaining('smaller than before'),
    });
    await expect(mounted(2n ** 33n, 2n ** 40n)).rejects.toMatchObject({ code: 'disk-refused' });
  });
  it('is ext4', async () => {
    await expect(mounted(undefined, 2n ** 30n)).rejects.toMatchObject({ expected: 'ext4' });
  });
  it('has the swap file that is asked for, made again at each boot', async () => {
    const host = fakeHost();
    await makeSwap(host, '/data', 0n);
    expect(host.commands).toEqual(['rm -f -- /data/swapfile']);
    await makeSwap(host, '/data', 4096n);
    expect(host.commands.slice(1).map((command) => command.split(' ')[0])).toEqual([
      ...['rm', 'fallocate', 'chmod', 'mkswap', 'swapon'],
    ]);
  });
});

describeWithPrograms('mkfs.ext4', ['mkfs.ext4'], () => {
  it.each([[], ['-O', '^64bit'], ['-b', '1024']])(
    'has the size that is read of its superblock (%s)',
    (...options) => {
      const file = join(folder, 'disk');
      writeFileSync(file, '');
      truncateSync(file, 16 * MIB);
      execFileSync('/sbin/mkfs.ext4', ['-q', '-F', ...options, file]);
      expect(ext4Bytes(new Uint8Array(readFileSync(file)).subarray(1024, 2048))).toBe(BigInt(16 * MIB));
    },
  );
});

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../log.ts';
import { DISK, fakeHost } from '../test/fake-host.ts';
import { loadImages } from './load-images.ts';

const log = createLogger('test');
const disk = { ...DISK, name: 'vdd', serial: 'images', readOnly: true };
let at: string;
beforeEach(() => {
  at = mkdtempSync(join(tmpdir(), 'load-images-'));
});
afterEach(() => rmSync(at, { recursive: true }));

describe('container images of the host', () => {
  it('are loaded in order, regular tarballs alone, from a disk that nothing can be run from', async () => {
    for (const name of ['b.tar', 'a.tar', 'c.txt']) writeFileSync(join(at, name), '');
    mkdirSync(join(at, 'd.tar'));
    symlinkSync('/etc/passwd', join(at, 'e.tar'));
    const host = fakeHost({ devices: [DISK, disk] });
    await loadImages(host, at, log);
    expect(host.commands).toEqual([
      `mount -t squashfs -o ro,nosuid,nodev,noexec /dev/vdd ${at}`,
      `docker load --quiet --input ${join(at, 'a.tar')}`,
      `docker load --quiet --input ${join(at, 'b.tar')}`,
      `umount -- ${at}`,
    ]);
  });

  it('need not be there', async () => {
    const host = fakeHost({ devices: [DISK] });
    await loadImages(host, at, log);
    expect(host.commands).toEqual([]);
  });

  it('that cannot be loaded end the start, and the disk is taken away', async () => {
    writeFileSync(join(at, 'a.tar'), '');
    const host = fakeHost({ devices: [disk], ran: (program) => (program === 'docker' ? 1 : 0) });
    await expect(loadImages(host, at, log)).rejects.toMatchObject({
      message: expect.stringContaining('docker'),
    });
    expect(host.commands.at(-1)).toBe(`umount -- ${at}`);
  });

  it('are on one disk', async () => {
    const host = fakeHost({ devices: [disk, { ...disk, name: 'vde' }] });
    await expect(loadImages(host, at, log)).rejects.toMatchObject({ code: 'start-failed' });
    expect(host.commands).toEqual([]);
  });
});

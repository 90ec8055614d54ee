/** What a builder of images can meet: each is one error that says the step and what to do, and leaves nothing half made. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bootRegisters } from '../boot-registers.ts';
import { checkRoot } from '../check-root.ts';
import { OsImageError } from '../errors.ts';
import { writeUki } from '../formats/uki.ts';
import { type ImageLock, parseLock } from '../lock/image-lock.ts';
import { PackageStore } from '../packages/package-store.ts';
import { ToolBox } from '../tools/tool-box.ts';
import { protectRoot, writeRootDisk } from './assemble.ts';
import { buildFailure, requireRoom } from './build-failure.ts';
import { buildImage } from './build-image.ts';
import { moveInto } from './move-into.ts';

const MIB = 1024 * 1024;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'bad input '));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const at = (...parts: string[]): string => join(folder, ...parts);

const locked = (name: string, version: string, sha256: string) => ({ name, version, size: 1, sha256 });
const lock: ImageLock = {
  ...{ schema: 1, suite: 'trixie', kernel: '1.2.3' },
  node: { name: 'node-x', version: '1.0.0', integrity: `sha512-${'A'.repeat(86)}==` },
  image: [locked('one', '1:1.0', '11'.repeat(32))],
  tools: [locked('two', '2.0', '22'.repeat(32))],
};

describe('a disk without room', () => {
  // Only root may mount.
  const test = process.getuid?.() === 0 ? it : it.skip;
  test('is refused before anything is written to it', async () => {
    mkdirSync(at('small'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', at('small')]);
    try {
      const build = buildImage({
        ...{ lock, recipe: folder, programs: folder, flavour: 'dev', version: '1' },
        ...{ output: at('small/image'), store: { cache: at('cache') } },
      });
      await expect(build).rejects.toMatchObject({
        code: 'no-space',
        message: expect.stringMatching(/no room for an image in .*small: .* 1500 MB and 16 MB are free/),
      });
      expect(readdirSync(at('small'))).toEqual([]);
      await expect(requireRoom(at('small'), MIB)).resolves.toBeUndefined();
      // One that becomes full meanwhile.
      const full = await Promise.resolve()
        .then(() => writeFileSync(at('small/much'), new Uint8Array(32 * MIB)))
        .catch((error: unknown) => error);
      expect(buildFailure(full, { step: 'Disk', folder: at('small') })).toMatchObject({
        code: 'no-space',
        message: expect.stringContaining('the disk became full at the step "Disk"'),
      });
    } finally {
      execFileSync('umount', [at('small')]);
    }
  });

  it('is known by what a program says of it, and another failure names its step', () => {
    const where = { step: 'Root file system', folder: '/out' };
    const said = new OsImageError('build-failed', 'sqfstar ended with status 1: No space left on device');
    expect(buildFailure(said, where).code).toBe('no-space');
    const tar = new OsImageError('build-failed', 'tar: package/bin/node: Wrote only 1536 of 10240 bytes');
    expect(buildFailure(tar, where).code).toBe('no-space');
    const other = Object.assign(new Error('EACCES: permission denied, mkdir'), { code: 'EACCES' });
    expect(buildFailure(other, where)).toMatchObject({
      code: 'build-failed',
      message: expect.stringMatching(
        /step "Root file system" in \/out failed, and nothing was left there: EACCES/,
      ),
    });
    const own = new OsImageError('bad-lock', 'x');
    expect(buildFailure(own, where)).toBe(own);
  });
});

describe('packages', () => {
  /** Stands for apt: serves other content, or nothing. */
  const withApt = async <T>(script: string, body: () => Promise<T>): Promise<T> => {
    mkdirSync(at('bin'));
    writeFileSync(at('bin/apt-get'), `#!/bin/sh\n${script}\n`);
    chmodSync(at('bin/apt-get'), 0o755);
    const before = process.env['PATH'];
    process.env['PATH'] = `${at('bin')}:${before}`;
    try {
      return await body();
    } finally {
      process.env['PATH'] = before;
    }
  };
  const mirror = { main: 'http://mirror.example/debian', security: 'http://mirror.example/security' };
  const files = () =>
    new PackageStore(lock, { cache: at('cache'), mirror }).files(lock.image).catch((error: unknown) => error);
  const cached = () => readdirSync(at('cache/packages'));

  it('that the mirror does not serve any more, or never did, are named', async () => {
    const error = await withApt(
      '[ "$1" = update ] || { echo "E: Unable to locate package" >&2; exit 100; }',
      files,
    );
    expect(error).toMatchObject({
      code: 'package-missing',
      message: expect.stringMatching(
        /names one 1:1\.0, which the mirror does not serve .*--packages DIR.*--update/,
      ),
    });
    expect(cached()).toEqual([]);
    expect(readdirSync(at('cache')).filter((name) => name.startsWith('fetch-'))).toEqual([]);
  });

  it('whose content is another are not used', async () => {
    const error = await withApt('[ "$1" = update ] || echo other >one_1%3a1.0_amd64.deb', files);
    expect(error).toMatchObject({
      code: 'package-differs',
      message: expect.stringMatching(/^one 1:1\.0 as it is served is not the file that the lock names/),
      expected: '11'.repeat(32),
      found: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(cached()).toEqual([]);
  });

  it('cannot be looked for where no mirror answers', async () => {
    const error = await withApt('exit 100', files);
    expect(error).toMatchObject({
      code: 'build-failed',
      message: expect.stringContaining('cannot be read from http://mirror.example/debian; check the network'),
    });
  });

  it('in another build that reads the lists just now are waited for', async () => {
    const busy = `[ -e "${at('once')}" ] || { touch "${at('once')}"; echo "E: Could not get lock lists/lock" >&2; exit 100; }`;
    const error = await withApt(`${busy}\n[ "$1" = update ] || exit 100`, files);
    expect(error).toMatchObject({ code: 'package-missing' });
  });

  it('that the lock calls by another name, version or size are refused, also from the cache', async () => {
    mkdirSync(at('one/DEBIAN'), { recursive: true });
    const control = [
      'Package: one',
      'Version: 1:1.0',
      'Architecture: all',
      'Maintainer: x',
      'Description: x',
    ];
    writeFileSync(at('one/DEBIAN/control'), `${control.join('\n')}\n`);
    execFileSync('dpkg-deb', ['--build', at('one'), at('one.deb')], { stdio: 'ignore' });
    const bytes = readFileSync(at('one.deb'));
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    mkdirSync(at('cache/packages'), { recursive: true });
    writeFileSync(at('cache/packages', `${sha256}.deb`), bytes);
    const right = { name: 'one', version: '1:1.0', size: bytes.length, sha256 };
    const store = new PackageStore(lock, { cache: at('cache') });
    await expect(store.files([right])).resolves.toHaveLength(1);
    for (const wrong of [{ name: 'onez' }, { version: '1:1.1' }, { size: 1 }])
      await expect(store.files([{ ...right, ...wrong }])).rejects.toMatchObject({
        code: 'bad-lock',
        found: `one 1:1.0, ${bytes.length} bytes`,
      });
  });

  it('are listed in a lock that says what is wrong with it', () => {
    const text = JSON.stringify(lock);
    expect(() => parseLock(text.replace('"1:1.0"', '"1 0"'), 'my.lock')).toThrow(
      /my\.lock: image\.0\.version/,
    );
    expect(() => parseLock(text.slice(0, -5), 'my.lock')).toThrow(/my\.lock is not JSON/);
  });
});

describe('tools', () => {
  it('that no package of the lock has are named', async () => {
    const tools = await ToolBox.unpack([], at('tools'));
    await expect(tools.run('usr/bin/sqfstar', [])).rejects.toMatchObject({ code: 'tool-missing' });
    mkdirSync(at('tools/usr/lib64'), { recursive: true });
    writeFileSync(at('tools/usr/lib64/ld-linux-x86-64.so.2'), '');
    await expect(tools.run('usr/bin/sqfstar', [])).rejects.toMatchObject({
      message: expect.stringMatching(
        /No package among the tools of the lock has usr\/bin\/sqfstar.*--update/,
      ),
    });
  });

  it('do not run below a path with a colon', async () => {
    await expect(ToolBox.unpack([], at('a:b'))).rejects.toThrow(/its path has a colon/);
  });
});

describe('a name that is taken', () => {
  it('goes to the build that ends first, and what is there stays', async () => {
    for (const name of ['first', 'second']) {
      mkdirSync(at(name));
      writeFileSync(at(name, 'which'), name);
    }
    const ends = await Promise.allSettled(['first', 'second'].map((name) => moveInto(at(name), at('image'))));
    const [winner] = ends.flatMap(({ status }, i) =>
      status === 'fulfilled' ? [['first', 'second'][i]] : [],
    );
    expect(ends.filter(({ status }) => status === 'rejected')).toEqual([
      { status: 'rejected', reason: expect.objectContaining({ code: 'exists' }) },
    ]);
    expect(readFileSync(at('image/which'), 'utf8')).toBe(winner);
  });

  it.each<[string, (path: string) => void]>([
    ['a folder of something else', (path) => mkdirSync(path)],
    ['a file', (path) => writeFileSync(path, 'x')],
    ['a link to nothing', (path) => symlinkSync('nothing', path)],
  ])('by %s is left alone', async (_, make) => {
    mkdirSync(at('made'));
    make(at('image'));
    await expect(moveInto(at('made'), at('image'))).rejects.toMatchObject({ code: 'exists' });
    expect(readdirSync(folder).sort()).toEqual(['image', 'made']);
  });
});

it('takes no folder of packages that is not there, also where the cache has them all', async () => {
  const lock = { image: [], tools: [] } as unknown as ConstructorParameters<typeof PackageStore>[0];
  const store = new PackageStore(lock, { cache: at('cache'), given: at('nowhere') });
  await expect(store.files([])).rejects.toMatchObject({
    code: 'package-missing',
    message: expect.stringContaining(`There is no folder ${at('nowhere')}`),
  });
});

describe('an image', () => {
  /** A root file system of random-looking blocks, and how the image describes it. */
  const rootOf = async () => {
    writeFileSync(
      at('squashfs'),
      Uint8Array.from({ length: 300 * 4096 - 5 }, (_, i) => (i * 7) & 0xff),
    );
    const root = await protectRoot(at('squashfs'));
    await writeRootDisk(at('rootfs'), root);
    const commandLine = `quiet dstack.rootfs_hash=${toHex(root.rootHash)} dstack.rootfs_size=${root.dataSize}`;
    return { folder, rootfs: 'rootfs', commandLine } as Parameters<typeof checkRoot>[0];
  };
  const flip = (place: number): void => {
    const bytes = readFileSync(at('rootfs'));
    bytes[place]! ^= 1;
    writeFileSync(at('rootfs'), bytes);
  };

  it('has a root that its command line names', async () => {
    await expect(checkRoot(await rootOf())).resolves.toBeUndefined();
  });

  it.each<[string, () => void, RegExp]>([
    ['cut off', () => truncateSync(at('rootfs'), MIB + 200 * 4096), /it is cut off: it has \d+ bytes/],
    ['changed by a bit', () => flip(MIB + 123_456), /not the one whose hash the command line names/],
    ['with a changed hash tree', () => flip(MIB + 300 * 4096 + 4096 + 7), /its hash tree is damaged/],
    ['without a partition table', () => flip(600), /its partition table cannot be read/],
    ['empty', () => truncateSync(at('rootfs'), 0), /partition table cannot be read/],
  ])('with a root that is %s would not start', async (_, damage, message) => {
    const image = await rootOf();
    damage();
    await expect(checkRoot(image)).rejects.toMatchObject({
      code: 'not-an-image',
      message: expect.stringMatching(message),
    });
  });

  it('whose command line names no root is none', async () => {
    await expect(checkRoot({ ...(await rootOf()), commandLine: 'quiet' })).rejects.toThrow(
      /does not name its hash/,
    );
  });

  it('whose unified kernel image lacks a section, or is cut off, is not measured', async () => {
    const program = new Uint8Array(4096 + 0x71);
    program.set(new TextEncoder().encode('DSTKSTUB'), 4096);
    const parts = { stub: { program, dataStart: 4096, entry: 0x10 }, commandLine: 'quiet' };
    const inner = { initrd: new Uint8Array(9), kernel: new Uint8Array(9000), osRelease: new Uint8Array(9) };
    const uki = writeUki({ ...parts, ...inner, kernel: writeUki({ ...parts, ...inner }) });
    const write = (bytes: Uint8Array) => writeFileSync(at('uki.efi'), bytes);
    write(uki);
    expect((await bootRegisters(at('uki.efi')))?.pcr4).toMatch(/^[0-9a-f]{64}$/);
    const without = uki.slice();
    without.set(new TextEncoder().encode('.xinit'), Buffer.from(uki).indexOf('.initrd'));
    for (const bytes of [without, uki.slice(0, uki.length - 6000), new Uint8Array(0)]) {
      write(bytes);
      await expect(bootRegisters(at('uki.efi'))).rejects.toMatchObject({
        code: 'not-an-image',
        message: expect.stringMatching(
          /no whole unified kernel image \(.+\); build or download the image again/,
        ),
      });
    }
  });
});

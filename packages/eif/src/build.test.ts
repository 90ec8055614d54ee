import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openBootFiles } from './build/boot-files.ts';
import { type BuildEifOptions, buildEif } from './build/build-eif.ts';
import { openSource } from './byte-source.ts';
import { describeEif } from './describe.ts';
import { EifError } from './errors.ts';
import { readEif } from './measure/read-eif.ts';
import { dockerArchive, type Layer, ociLayout } from './test/container-archives.ts';
import { type Member, ramdiskMembers } from './test/cpio-members.ts';
import { verifyEif } from './verify.ts';

let folder: string;
let warnings: string[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'eif-build-'));
  warnings = [];
  mkdirSync(join(folder, 'blobs'));
  for (const [name, text] of Object.entries({
    bzImage: 'kernel',
    cmdline: 'reboot=k console=ttyS0\n',
    init: '#!init',
    'nsm.ko': 'module',
  }))
    writeFileSync(join(folder, 'blobs', name), text);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (...parts: string[]) => join(folder, ...parts);

type Changes = Partial<Omit<BuildEifOptions, 'boot'>>;

/** A file with holes; `EIF_SPARSE_BYTES` makes it larger, such as a gigabyte. */
const SPARSE_BYTES = Number(process.env['EIF_SPARSE_BYTES'] ?? 192 << 20);

async function build(root: BuildEifOptions['root'], changes: Changes = {}) {
  const { built, output } = await buildOnly(root, changes);
  return { built, image: new Uint8Array(readFileSync(output)), output };
}

/** The same without reading what was built: it may be large. */
async function buildOnly(root: BuildEifOptions['root'], changes: Changes = {}) {
  const boot = await openBootFiles({ folder: at('blobs') });
  try {
    const output = changes.output ?? at('app.eif');
    const built = await buildEif({
      root,
      boot,
      now: new Date('2026-11-30T12:00:00Z'),
      buildTime: new Date(0),
      tool: { name: 'dstack-cloud', version: '0.1.0' },
      output,
      warn: (line) => warnings.push(line),
      ...changes,
    });
    return { built, output };
  } finally {
    await boot.close();
  }
}

const container = async (layers: readonly Layer[], config?: object, changes?: Changes) => {
  await dockerArchive(at('app.tar'), layers, config);
  return build({ kind: 'container', path: at('app.tar') }, changes);
};

/** What the root has, by path, below `rootfs/`. */
function rootOf(image: Uint8Array): Record<string, Member> {
  return Object.fromEntries(
    ramdiskMembers(image, 1)
      .filter(({ path }) => path.startsWith('rootfs/'))
      .map((member) => [member.path.slice('rootfs/'.length), member]),
  );
}
const fileOf = (image: Uint8Array, name: string) =>
  ramdiskMembers(image, 1).find(({ path }) => path === name)?.data;

const FILE: Layer = [{ name: 'a', data: 'x' }];
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

it('builds, describes and verifies an image of a container', async () => {
  const { built, output } = await container(
    [
      [
        { name: 'bin/', type: 'directory' },
        { name: 'bin/app', data: '#!app', mode: 0o755 },
      ],
    ],
    { Cmd: ['/bin/app', '--fast'], Env: ['PATH=/bin', 'A=b=c'] },
  );
  const source = await openSource(output);
  const eif = await readEif(source);
  await source.close();
  verifyEif(eif, { now: new Date() });
  expect(eif.pcrs).toEqual(built.pcrs);
  const image = new Uint8Array(readFileSync(output));
  expect(image.length).toBe(built.size);
  expect(fileOf(image, 'cmd')).toBe('/bin/app\n--fast\n');
  expect(fileOf(image, 'env')).toBe('PATH=/bin\nA=b=c\n');
  expect(ramdiskMembers(image, 0).map(({ path, data }) => [path, data])).toEqual([
    ['dev', ''],
    ['init', '#!init'],
    ['nsm.ko', 'module'],
  ]);
  expect(describeEif(eif)).toMatchObject({
    ImageName: 'registry.example/app',
    ImageVersion: expect.stringMatching(/^[0-9a-f]{64}$/),
    CheckCRC: true,
    Metadata: { BuildTime: '1970-01-01T00:00:00+00:00', BuildTool: 'dstack-cloud', KernelVersion: 'Unknown' },
  });
  expect(readdirSync(folder).sort()).toEqual(['app.eif', 'app.tar', 'blobs']);
});

it('has sorted names, no times, one link each, and inode numbers in order', async () => {
  const { image } = await container([
    [
      { name: 'b', data: 'x', mtime: new Date(1e12) },
      { name: 'a/', type: 'directory', mode: 0o700, uid: 7, gid: 8 },
      { name: 'a-b', data: 'y', mode: 0o4755 },
    ],
  ]);
  const members = ramdiskMembers(image, 1);
  expect(members.map(({ path }) => path)).toEqual(
    ['cmd', 'env', 'rootfs', 'rootfs/a', 'rootfs/a-b', 'rootfs/b'].concat(
      ['dev', 'proc', 'run', 'sys', 'tmp', 'var'].map((name) => `rootfs/${name}`),
    ),
  );
  expect(members.map(({ inode }) => inode)).toEqual(members.map((_, i) => i));
  for (const member of members) expect(member).toMatchObject({ mtime: 0, links: 1 });
  expect(rootOf(image)['a']).toMatchObject({ mode: 0o40700, uid: 7, gid: 8 });
  expect(rootOf(image)['a-b']?.mode).toBe(0o104755);
});

it('two builds are equal byte for byte, from a docker archive, an OCI archive, gzip layers, or an OCI folder', async () => {
  const layers: Layer[] = [
    [
      { name: 'app', data: 'x'.repeat(100_000), mode: 0o755 },
      { name: 'etc/conf', data: 'one' },
    ],
    [{ name: 'etc/.wh.conf' }, { name: 'etc/new', data: 'two' }],
  ];
  const { image } = await container(layers);
  await dockerArchive(at('again.tar'), layers, undefined, { gzip: true });
  await ociLayout(at('layout'), layers);
  execFileSync('tar', ['-C', at('layout'), '-cf', at('layout.tar'), '.']);
  for (const name of ['again.tar', 'layout', 'layout.tar']) {
    const again = await build(
      { kind: 'container', path: at(name) },
      { output: at(`${name}.eif`), imageName: 'registry.example/app' },
    );
    expect(sha256(again.image), name).toBe(sha256(image));
  }
});

it('times in the layers change the id of an image, and no register', async () => {
  const { built } = await container([FILE]);
  await dockerArchive(at('later.tar'), [FILE], undefined, { mtime: new Date(5e11) });
  const later = await build({ kind: 'container', path: at('later.tar') });
  expect(later.built.pcrs).toEqual(built.pcrs);
});

it('puts layers on each other as the OCI image specification says', async () => {
  const { image } = await container([
    [
      { name: 'gone', data: '1' },
      { name: 'kept', data: '1' },
      { name: 'dir/lower', data: '1' },
      { name: 'dir/replaced', data: '1' },
      { name: 'opaque/lower', data: '1' },
      { name: 'opaque/deep/lower', data: '1' },
      { name: 'was-dir/file', data: '1' },
      { name: 'usr/lib/', type: 'directory' },
      { name: 'lib', type: 'symlink', linkname: 'usr/lib' },
    ],
    [
      { name: '.wh.gone' },
      { name: 'dir/', type: 'directory', mode: 0o711 },
      { name: 'dir/replaced', data: '22' },
      // Whiteouts hide lower layers alone, also when what they hide comes first in the archive.
      { name: 'opaque/own', data: '2' },
      { name: 'opaque/.wh..wh..opq' },
      { name: 'kept', data: '2' },
      { name: '.wh.kept' },
      { name: 'was-dir', data: 'now a file' },
      { name: 'lib/so', data: 'below the link' },
      { name: '.wh..wh.plnk', data: '' },
    ],
  ]);
  const root = rootOf(image);
  const names = Object.keys(root).filter((name) => !/^(dev|proc|run|sys|tmp|var)$/.test(name));
  expect(names).toEqual(
    ['dir', 'dir/lower', 'dir/replaced', 'kept', 'lib', 'opaque', 'opaque/own', 'usr', 'usr/lib'].concat([
      'usr/lib/so',
      'was-dir',
    ]),
  );
  expect(root['dir']?.mode).toBe(0o40711);
  expect(root['dir/replaced']?.data).toBe('22');
  expect(root['kept']?.data).toBe('2');
  expect(root['lib']).toMatchObject({ data: 'usr/lib', mode: 0o120777 });
});

it('makes files of hard links, and keeps devices, pipes and names of any bytes', async () => {
  const long = `${'d'.repeat(90)}/${'f'.repeat(120)}`;
  const { image } = await container([
    [
      { name: 'one', data: 'content', mode: 0o600 },
      { name: 'two', type: 'link', linkname: 'one' },
      { name: 'dev/', type: 'directory' },
      { name: 'dev/console', type: 'character-device', mode: 0o622, devmajor: 5, devminor: 1 },
      { name: 'dev/loop', type: 'block-device', devmajor: 7, devminor: 300 },
      { name: 'pipe', type: 'fifo' },
      { name: 'line\nbreak', data: 'n' },
      { name: 'ünïcode 日本', data: 'u' },
      { name: long, data: 'l' },
    ],
  ]);
  const root = rootOf(image);
  expect(root['two']).toMatchObject({ data: 'content', mode: 0o100600, links: 1 });
  expect(root['dev/console']).toMatchObject({ mode: 0o020622, major: 5, minor: 1 });
  expect(root['dev/loop']).toMatchObject({ mode: 0o060644, major: 7, minor: 300 });
  expect(root['pipe']?.mode).toBe(0o010644);
  expect(root['line\nbreak']?.data).toBe('n');
  expect(root[Buffer.from('ünïcode 日本').toString('latin1')]?.data).toBe('u');
  expect(root[long]?.data).toBe('l');
});

it('takes a folder, with what a folder can hold', async () => {
  const root = at('root');
  mkdirSync(join(root, 'bin'), { recursive: true });
  writeFileSync(join(root, 'bin/app'), 'app');
  chmodSync(join(root, 'bin/app'), 0o755);
  linkSync(join(root, 'bin/app'), join(root, 'bin/same'));
  symlinkSync('/bin/app', join(root, 'link'));
  writeFileSync(join(root, '.wh.literal'), 'no whiteout here');
  writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0x0a, 0x80])]), 'bytes');
  execFileSync('mkfifo', [join(root, 'pipe')]);
  const { image } = await build({ kind: 'folder', path: root }, { command: ['/bin/app'] });
  const members = rootOf(image);
  expect(members['bin/same']).toMatchObject({ data: 'app', links: 1 });
  expect(members['link']).toMatchObject({ data: '/bin/app' });
  expect(members['.wh.literal']?.data).toBe('no whiteout here');
  expect(members['\xff\n\x80']?.data).toBe('bytes');
  expect(members['pipe']).toBeDefined();
  expect(fileOf(image, 'cmd')).toBe('/bin/app\n');
});

it('a file with holes becomes as long as it says, and the user is told', async () => {
  mkdirSync(at('root'));
  writeFileSync(at('root/sparse'), '');
  truncateSync(at('root/sparse'), SPARSE_BYTES);
  const before = process.memoryUsage().rss;
  let most = before;
  const sampling = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss);
  }, 20);
  const { built } = await buildOnly({ kind: 'folder', path: at('root') }, { command: ['/app'] });
  clearInterval(sampling);
  expect(built.size).toBeGreaterThan(SPARSE_BYTES);
  expect(warnings).toEqual([expect.stringMatching(/"sparse" has holes: 0 bytes on disk become \d+ bytes/)]);
  expect(most - before).toBeLessThan(80 << 20);
}, 120_000);

it.each<[string, object, boolean, string, RegExp | undefined]>([
  ['CMD', { Cmd: ['a', 'b'] }, false, 'a\nb\n', undefined],
  ['ENTRYPOINT', { Entrypoint: ['a'] }, false, 'a\n', undefined],
  [
    'both',
    { Entrypoint: ['a'], Cmd: ['b'] },
    false,
    'a\nb\n',
    /are joined, as Docker does; nitro-cli would start \["b"\] alone/,
  ],
  [
    'both, as nitro-cli',
    { Entrypoint: ['a'], Cmd: ['b'] },
    true,
    'b\n',
    /ENTRYPOINT of the image is not run/,
  ],
  ['ENTRYPOINT, as nitro-cli', { Entrypoint: ['a'] }, true, 'a\n', undefined],
  [
    'a user',
    { Cmd: ['a'], User: '1000' },
    false,
    'a\n',
    /USER "1000", but the enclave's init starts it as root/,
  ],
  [
    'a folder',
    { Cmd: ['a'], WorkingDir: '/srv' },
    false,
    'a\n',
    /WORKDIR "\/srv", but the enclave's init starts it in \//,
  ],
])('starts what the image says: %s', async (_name, config, nitroCliCompat, cmd, warning) => {
  const { image } = await container([[{ name: 'a', data: '' }]], config, { nitroCliCompat });
  expect(fileOf(image, 'cmd')).toBe(cmd);
  expect(warnings).toEqual(warning === undefined ? [] : [expect.stringMatching(warning)]);
});

it.each<[string, () => Promise<unknown>, string, RegExp]>([
  ['nothing to start', () => container([FILE], {}), 'bad-argument', /Nothing says what the enclave starts/],
  [
    'a word with a line break',
    () => container([FILE], { Cmd: ['a\nb'] }),
    'bad-image',
    /"a\\nb" of the command has a line break/,
  ],
  [
    'a variable with a line break',
    () => container([FILE], { Cmd: ['a'], Env: ['A=1\nB=2'] }),
    'bad-image',
    /variable "A" has a line break/,
  ],
  [
    'a variable without value',
    () => container([FILE], { Cmd: ['a'], Env: ['A'] }),
    'bad-image',
    /"A" in the environment of the image is not NAME=VALUE/,
  ],
  [
    'a hard link to nothing',
    () => container([[{ name: 'a', type: 'link', linkname: 'b' }]]),
    'bad-image',
    /"a" is a hard link to "b", which is not a file/,
  ],
  [
    'a name that leads out',
    () => container([[{ name: '../a', data: '' }]]),
    'bad-image',
    /"\.\.\/a" cannot be the name/,
  ],
  [
    'a file below a file',
    () =>
      container([
        [
          { name: 'a', data: '' },
          { name: 'a/b', data: '' },
        ],
      ]),
    'bad-image',
    /lies below "a", which is not a folder/,
  ],
  [
    'links in a ring',
    () =>
      container([
        [
          { name: 'a', type: 'symlink', linkname: 'b' },
          { name: 'b', type: 'symlink', linkname: 'a' },
          { name: 'a/x', data: '' },
        ],
      ]),
    'bad-image',
    /links that lead to each other/,
  ],
  [
    'a name too long',
    () => container([[{ name: `${'a'.repeat(256)}`, data: '' }]]),
    'too-large',
    /name in the image is too long/,
  ],
  [
    'folders that links make deeper and deeper',
    () =>
      container([
        Array.from({ length: 40 }, (_, i) => [
          { name: i === 0 ? 'd/'.repeat(50) : `l${i - 1}/${'d/'.repeat(50)}`, type: 'directory' as const },
          {
            name: `l${i}`,
            type: 'symlink' as const,
            linkname: `${i === 0 ? '' : `l${i - 1}/`}${'d/'.repeat(50)}`,
          },
        ]).flat(),
      ]),
    'too-large',
    /lies too deep in folders/,
  ],
  [
    'another machine',
    async () => {
      await dockerArchive(at('app.tar'), [FILE], undefined, { architecture: 'arm64' });
      return build({ kind: 'container', path: at('app.tar') });
    },
    'unsupported',
    /image is for another machine than the kernel/,
  ],
  [
    'a layer that was changed',
    async () => {
      await dockerArchive(at('app.tar'), [FILE], undefined, { diffIds: ['sha256:'.padEnd(71, '0')] });
      return build({ kind: 'container', path: at('app.tar') });
    },
    'bad-image',
    /Layer 0 is not the one that the configuration of the image names/,
  ],
  [
    'an archive cut short',
    async () => {
      await dockerArchive(at('app.tar'), [[{ name: 'a', data: 'x'.repeat(5000) }]]);
      truncateSync(at('app.tar'), 3000);
      return build({ kind: 'container', path: at('app.tar') });
    },
    'bad-image',
    /cut short|neither a docker archive/,
  ],
  [
    'a damaged gzip layer',
    async () => {
      await dockerArchive(at('app.tar'), [FILE], undefined, { gzip: true, damage: true });
      return build({ kind: 'container', path: at('app.tar') });
    },
    'bad-image',
    /cannot be unpacked: it is damaged/,
  ],
  [
    'no archive at all',
    () => {
      writeFileSync(at('app.tar'), 'text'.repeat(1000));
      return build({ kind: 'container', path: at('app.tar') });
    },
    'bad-image',
    /is no tar archive, or is damaged/,
  ],
  [
    'a compressed archive',
    async () => {
      await dockerArchive(at('app.tar'), [FILE]);
      execFileSync('gzip', ['-f', at('app.tar')]);
      return build({ kind: 'container', path: at('app.tar.gz') });
    },
    'bad-image',
    /is compressed/,
  ],
  [
    'an archive of something else',
    () => {
      writeFileSync(at('x'), 'x');
      execFileSync('tar', ['-C', folder, '-cf', at('app.tar'), 'x']);
      return build({ kind: 'container', path: at('app.tar') });
    },
    'bad-image',
    /neither a docker archive nor an OCI image layout/,
  ],
  [
    'a sparse member',
    async () => {
      mkdirSync(at('sparse'));
      writeFileSync(at('sparse/file'), '');
      truncateSync(at('sparse/file'), 1 << 20);
      execFileSync('tar', ['--sparse', '-C', at('sparse'), '-cf', at('layer.tar'), 'file']);
      await dockerArchive(at('app.tar'), [], undefined, { rawLayers: [at('layer.tar')] });
      return build({ kind: 'container', path: at('app.tar') });
    },
    'bad-image',
    /stored as a sparse file, in a form of GNU tar/,
  ],
  [
    'a socket in a folder',
    async () => {
      mkdirSync(at('root'));
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(at('root/socket'), resolve));
      try {
        return await build({ kind: 'folder', path: at('root') }, { command: ['a'] });
      } finally {
        server.close();
      }
    },
    'bad-image',
    /"socket" is a socket, which an image cannot have/,
  ],
  [
    'a file of more than 4 GiB',
    () => {
      mkdirSync(at('root'));
      writeFileSync(at('root/huge'), '');
      truncateSync(at('root/huge'), 2 ** 32);
      return build({ kind: 'folder', path: at('root') }, { command: ['a'] });
    },
    'too-large',
    /"rootfs\/huge" is too long for a ramdisk/,
  ],
  [
    'another file in the place of the output',
    () => {
      writeFileSync(at('precious'), 'data');
      return container([FILE], undefined, { output: at('precious') });
    },
    'output-exists',
    /exists already, and is no enclave image/,
  ],
  [
    'another kernel than expected',
    () => container([FILE], undefined, { pcr1: 'aws' }),
    'measurement-differs',
    /do not give the expected PCR 1/,
  ],
  [
    'no kernel',
    () => {
      rmSync(at('blobs/bzImage'));
      return container([FILE]);
    },
    'bad-argument',
    /The kernel is missing: .*bzImage/,
  ],
])('refuses %s, and leaves nothing behind', async (_name, run, code, message) => {
  const error = await run().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(EifError);
  expect(error).toMatchObject({ code });
  expect((error as EifError).message).toMatch(message);
  expect(readdirSync(folder).filter((name) => name.endsWith('.eif') || name.startsWith('.'))).toEqual([]);
});

it('asks which image of an archive', async () => {
  await dockerArchive(at('app.tar'), [FILE], undefined, { second: 'other:1' });
  const path = at('app.tar');
  await expect(build({ kind: 'container', path })).rejects.toMatchObject({
    message: 'There are several images',
    found: 'registry.example/app:1.0, other:1',
  });
  await expect(build({ kind: 'container', path, name: 'nosuch' })).rejects.toThrow(
    'There is no image "nosuch"',
  );
  await build({ kind: 'container', path, name: 'other:1' });
});

describeWithPrograms('beside other programs', ['cpio'], () => {
  it('cpio lists the ramdisk of a build as we do', async () => {
    const { image } = await container([
      [
        { name: 'etc/hello', data: 'hello' },
        { name: 'b', data: '' },
      ],
    ]);
    const members = ramdiskMembers(image, 1);
    const listed = execFileSync('cpio', ['-t', '--quiet'], { input: members[0]!.archive }).toString();
    expect(listed.trimEnd().split('\n')).toEqual(members.map(({ path }) => path));
  });
});

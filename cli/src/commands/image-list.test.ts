import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Sandbox } from '../testing.ts';

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = new Sandbox();
});
afterEach(() => sandbox.remove());

const FOLDER = '.local/share/dstack-cloud/images';

function image(name: string): string {
  const folder = sandbox.path(FOLDER, name);
  mkdirSync(folder, { recursive: true });
  const metadata = { kernel: 'bzImage', initrd: 'initrd', cmdline: 'console=ttyS0', version: '0.1.0' };
  writeFileSync(`${folder}/metadata.json`, JSON.stringify(metadata));
  for (const file of ['bzImage', 'initrd']) writeFileSync(`${folder}/${file}`, 'x');
  const lines = ['bzImage', 'initrd', 'metadata.json'].map((file) => {
    const hash = createHash('sha256')
      .update(readFileSync(`${folder}/${file}`))
      .digest('hex');
    return `${hash}  ${file}\n`;
  });
  writeFileSync(`${folder}/sha256sum.txt`, lines.join(''));
  return folder;
}

it('lists images, and says of a damaged one what is wrong', async () => {
  image('good');
  writeFileSync(`${image('bad')}/metadata.json`, '{');
  const { code, stdout } = await sandbox.run('image', 'list', '--json');
  expect(code).toBe(0);
  const rows = JSON.parse(stdout) as { name: string; error: string | null; os_image_hash: string | null }[];
  expect(rows.map(({ name, error }) => [name, error === null])).toEqual([
    ['bad', false],
    ['good', true],
  ]);
  expect(rows[1]?.os_image_hash).toMatch(/^[0-9a-f]{64}$/);
});

it('lists images behind links, and says of a link that leads nowhere what is wrong', async () => {
  image('good');
  const elsewhere = sandbox.path('elsewhere');
  mkdirSync(elsewhere);
  symlinkSync(sandbox.path(FOLDER, 'good'), sandbox.path(FOLDER, 'linked'));
  symlinkSync(sandbox.path('nowhere'), sandbox.path(FOLDER, 'broken'));
  symlinkSync('loop', sandbox.path(FOLDER, 'loop'));
  symlinkSync(elsewhere, sandbox.path(FOLDER, 'no-image'));
  writeFileSync(sandbox.path(FOLDER, 'a-file'), 'x');
  const { stdout } = await sandbox.run('image', 'list', '--json');
  const rows = JSON.parse(stdout) as { name: string; error: string | null }[];
  expect(rows.map(({ name, error }) => [name, error === null])).toEqual([
    ['broken', false],
    ['good', true],
    ['linked', true],
    ['loop', false],
  ]);
  expect(rows[0]?.error).toMatch(/metadata\.json is missing/);
  expect((await sandbox.run('image', 'measure', 'linked')).code).toBe(0);
});

it('refuses to measure an image with a changed file, a missing one, or a link in its place', async () => {
  const folder = image('one');
  expect((await sandbox.run('image', 'measure', 'one')).code).toBe(0);
  writeFileSync(`${folder}/bzImage`, 'y');
  const changed = await sandbox.run('image', 'measure', 'one', '--json');
  expect(changed.code).toBe(4);
  expect(JSON.parse(changed.stdout).error.code).toBe('not_verified');
  const linked = image('two');
  mkdirSync(sandbox.path('elsewhere'));
  writeFileSync(sandbox.path('elsewhere/list'), 'x');
  symlinkSync(sandbox.path('elsewhere/list'), `${linked}/other`);
  writeFileSync(
    `${linked}/metadata.json`,
    JSON.stringify({ kernel: 'other', initrd: 'initrd', cmdline: 'console=ttyS0' }),
  );
  expect((await sandbox.run('image', 'measure', 'two')).stderr).toContain('other is missing');
});

it('removes images by name alone, and nothing that is not an image', async () => {
  image('one');
  mkdirSync(sandbox.path(FOLDER, 'precious'));
  writeFileSync(sandbox.path(FOLDER, 'precious/data'), 'x');
  expect((await sandbox.run('image', 'rm', 'precious')).stderr).toContain('is not an OS image');
  expect((await sandbox.run('image', 'rm', '../images/one')).stderr).toContain('not a path');
  expect((await sandbox.run('image', 'rm', '..')).stderr).toContain('cannot be the name');
  expect((await sandbox.run('image', 'rm', 'one')).code).toBe(0);
  expect((await sandbox.run('image', 'rm', 'one')).code).toBe(3);
});

it('removes no image that a machine of this host boots, or may boot', async () => {
  const folder = image('used');
  const runPath = sandbox.path('.local/share/dstack-cloud/vm');
  const machine = (name: string, text: string): void => {
    mkdirSync(`${runPath}/${name}`, { recursive: true, mode: 0o700 });
    writeFileSync(`${runPath}/${name}/vm-manifest.json`, text);
  };
  symlinkSync(folder, sandbox.path('link'));
  const manifest = {
    ...{
      schema: 1,
      id: '6f0c8a50-0d4c-4f6e-8b53-3d3c1e6f7a01',
      name: 'shop',
      app_id: '11'.repeat(20),
      image: 'used',
    },
    ...{
      created_at_ms: 1,
      attestation: { root_ca_tdx: null, pccs_url: null },
      port_map: [],
      owner: null,
      project: null,
    },
    ...{
      agent_port: { address: '127.0.0.1', from: 9000, fixed: false },
      driver: 'vm',
      tee: { kind: 'none' },
    },
    vm: {
      ...{ home: `${runPath}/shop`, image_folder: sandbox.path('link'), vcpu: 1, memory: 2048, disk_size: 4 },
      ...{ boot: 'direct', tpm: 'none', networks: [{ mode: 'user' }], acceleration: 'auto', cid: 100 },
      ...{ images_disk: null, docker_registry: null, qemu: 'qemu', boot_timeout: 600, restart: false },
      ...{ gpus: null },
    },
  };
  machine('shop', JSON.stringify(manifest));
  const refused = await sandbox.run('image', 'rm', 'used');
  expect(refused).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('Machines boot the image used: shop'),
  });
  machine('shop', '{');
  expect((await sandbox.run('image', 'rm', 'used')).stderr).toContain(`${runPath}/shop`);
  rmSync(`${runPath}/shop`, { recursive: true });
  expect((await sandbox.run('image', 'rm', 'used')).code).toBe(0);
});

it('does not build over an image that is there', async () => {
  image('taken');
  const { code, stderr } = await sandbox.run('image', 'build', '--name', 'taken');
  expect(code).toBe(1);
  expect(stderr).toContain('exists already');
});

describe('image diff', () => {
  const differing = (): void => {
    image('one');
    const two = image('two');
    writeFileSync(
      `${two}/metadata.json`,
      JSON.stringify({
        kernel: 'bzImage',
        initrd: 'initrd',
        cmdline: 'console=ttyS1 debug',
        version: '0.2.0',
      }),
    );
    writeFileSync(`${two}/initrd`, 'x'.repeat(2000));
    const sbom = (components: object[]) => JSON.stringify({ bomFormat: 'CycloneDX', components });
    const component = (name: string, version: string, size: number, content = 'aa') => ({
      ...{ name, version, hashes: [{ alg: 'SHA-256', content }] },
      properties: [{ name: 'dstack:size', value: String(size) }],
    });
    writeFileSync(
      sandbox.path(FOLDER, 'one/sbom.cdx.json'),
      sbom([component('bash', '5.1', 900), component('gone', '1', 500), component('same', '1', 10)]),
    );
    writeFileSync(
      sandbox.path(FOLDER, 'two/sbom.cdx.json'),
      sbom([component('bash', '5.2', 2_400_000), component('same', '1', 10, 'bb')]),
    );
  };

  it('says what differs between two images, with sizes', async () => {
    differing();
    const { code, stdout } = await sandbox.run('image', 'diff', 'one', 'two', '--json');
    expect(code).toBe(1);
    const rows = JSON.parse(stdout) as { what: string }[];
    expect(rows.map(({ what }) => what)).toEqual([
      ...['package bash', 'package gone', 'package same', 'version'],
      ...['command line console', 'command line debug', 'file initrd', 'file metadata.json'],
    ]);
    expect(rows[0]).toEqual({
      ...{ what: 'package bash', kind: 'package', name: 'bash', before: '5.1', after: '5.2' },
      ...{ before_bytes: 900, after_bytes: 2_400_000, note: null },
    });
    expect(rows[1]).toMatchObject({ before: '1', after: null, before_bytes: 500, after_bytes: null });
    expect(rows[6]).toMatchObject({ before_bytes: 1, after_bytes: 2000 });
  });

  it('explains it to people', async () => {
    differing();
    const { stdout } = await sandbox.run('image', 'diff', 'one', 'two');
    expect(stdout).toContain('Packages: 3 differ, +2.4 MB before compression\n');
    expect(stdout).toContain('  bash: 5.1 -> 5.2  900 B -> 2.4 MB (+2.4 MB)\n');
    expect(stdout).toContain('  gone: 1 -> (absent)  500 B -> 0 B (-500 B)\n');
    expect(stdout).toContain('  same: 1  10 B  (the same version with other content)\n');
    expect(stdout).toContain('Command line (measured)\n  console: console=ttyS0 -> console=ttyS1\n');
    expect(stdout).toMatch(/ {2}initrd: [0-9a-f]{16} -> [0-9a-f]{16} {2}1 B -> 2\.0 kB \(\+2\.0 kB\)\n/);
    expect(stdout).toContain('os-image-hash is the same: what differs is not among the files that decide\n');
  });

  it('says nothing of an image whose list of packages cannot be read', async () => {
    differing();
    writeFileSync(sandbox.path(FOLDER, 'two/sbom.cdx.json'), '{"components":1}');
    const { code, stdout, stderr } = await sandbox.run('image', 'diff', 'one', 'two');
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain('sbom.cdx.json is no list of packages that can be compared');
  });

  it('finds nothing between an image and itself', async () => {
    differing();
    expect(await sandbox.run('image', 'diff', 'one', 'one')).toMatchObject({
      code: 0,
      stdout: 'The images are equal, byte for byte\n',
    });
  });
});

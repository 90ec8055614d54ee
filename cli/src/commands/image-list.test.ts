import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
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
  const hash = '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881';
  writeFileSync(`${folder}/sha256sum.txt`, `${hash}  bzImage\n${hash}  initrd\n`);
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

it('does not build over an image that is there', async () => {
  image('taken');
  const { code, stderr } = await sandbox.run('image', 'build', '--name', 'taken');
  expect(code).toBe(1);
  expect(stderr).toContain('exists already');
});

it('says what differs between two images', async () => {
  image('one');
  writeFileSync(
    `${image('two')}/metadata.json`,
    JSON.stringify({ kernel: 'bzImage', initrd: 'initrd', cmdline: 'console=ttyS0 debug', version: '0.2.0' }),
  );
  const { code, stdout } = await sandbox.run('image', 'diff', 'one', 'two', '--json');
  expect(code).toBe(1);
  expect((JSON.parse(stdout) as { what: string }[]).map(({ what }) => what)).toEqual([
    'version',
    'command line debug',
  ]);
});

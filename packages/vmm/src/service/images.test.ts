import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Images } from './images.ts';
import { writeTinyImage } from './test/tiny-image.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-images-'));
  for (const name of ['good', 'bad']) writeTinyImage(folder, name, 'sleeps');
});
afterEach(() => rmSync(folder, { recursive: true }));

it.each([
  ['is half copied', (image: string) => rmSync(join(image, 'sha256sum.txt'))],
  ['describes itself in no UTF-8', (image: string) => replaceText(join(image, 'metadata.json'))],
  ['has a description that is too large', (image: string) => fill(join(image, 'metadata.json'))],
])('an image that %s does not keep the others from being listed', async (_name, damage) => {
  damage(join(folder, 'bad'));
  const images = new Images(folder);
  const description = readFileSync(join(folder, 'good/metadata.json'), 'utf8');
  expect(await images.list()).toEqual([{ name: 'good', version: '0.6.0', isDev: true, description }]);
  await expect(images.find('bad')).rejects.toMatchObject({ code: 'bad_image' });
});

it('an image behind a link is listed and used; a link that leads nowhere is refused by name', async () => {
  const elsewhere = mkdtempSync(join(tmpdir(), 'vmm-elsewhere-'));
  try {
    symlinkSync(writeTinyImage(elsewhere, 'real', 'sleeps'), join(folder, 'linked'));
    symlinkSync(join(elsewhere, 'gone'), join(folder, 'broken'));
    const images = new Images(folder);
    expect((await images.list()).map(({ name }) => name)).toEqual(['bad', 'good', 'linked']);
    expect((await images.find('linked')).version).toBe('0.6.0');
    await expect(images.find('broken')).rejects.toMatchObject({
      code: 'bad_image',
      message: expect.stringContaining('broken is not an OS image: metadata.json is missing'),
    });
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});

const machine = (image: string | undefined) => ({ name: `boots-${image}`, image });

it('an image is kept for machines that boot it through a link, and a link for those that boot through it', async () => {
  symlinkSync('good', join(folder, 'stable'));
  symlinkSync(join(folder, 'stable'), join(folder, 'newest'));
  const images = new Images(folder);
  for (const name of ['good', 'stable', 'newest'])
    await expect(images.remove(name, [machine('newest')])).rejects.toMatchObject({
      code: 'running',
      found: 'boots-newest',
    });
  for (const name of ['stable', 'newest'])
    await expect(images.remove(name, [machine('bad'), machine('newest')])).rejects.toMatchObject({
      found: 'boots-newest',
    });
  // Nobody boots through these links: they go, and what they lead to stays.
  await images.remove('newest', [machine('stable')]);
  await images.remove('stable', [machine('good'), machine('gone')]);
  expect(readdirSync(folder)).toEqual(['bad', 'good']);
  await images.remove('good', [machine('bad')]);
  expect(readdirSync(folder)).toEqual(['bad']);
});

it('an image is kept while a machine is there of which nobody can read what it boots', async () => {
  const images = new Images(folder);
  await expect(images.remove('good', [machine('bad'), machine(undefined)])).rejects.toMatchObject({
    code: 'running',
    found: 'boots-undefined',
  });
  expect(readdirSync(folder)).toEqual(['bad', 'good']);
});

it('a removal takes nothing along but the image: links of it lead out, and names with paths are of no image', async () => {
  const elsewhere = mkdtempSync(join(tmpdir(), 'vmm-elsewhere-'));
  try {
    const real = writeTinyImage(elsewhere, 'real', 'sleeps');
    writeFileSync(join(elsewhere, 'kept'), 'kept');
    symlinkSync(real, join(folder, 'linked'));
    symlinkSync(elsewhere, join(folder, 'good/out'));
    const images = new Images(folder);
    for (const name of ['', '.', '..', '../bad', 'good/../bad', '/etc', 'good/', 'good\0', '.hidden', 'none'])
      await expect(images.remove(name, []), JSON.stringify(name)).rejects.toMatchObject({
        code: 'not_found',
      });
    await images.remove('linked', []);
    await images.remove('good', []);
    expect(readdirSync(folder)).toEqual(['bad']);
    expect(readdirSync(elsewhere)).toEqual(['kept', 'real']);
    expect(readdirSync(real)).toContain('metadata.json');
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});

function replaceText(path: string): void {
  const text = readFileSync(path, 'latin1');
  writeFileSync(path, text.replace('{', '{"note":"\xff",'), 'latin1');
}

function fill(path: string): void {
  writeFileSync(path, JSON.stringify({ note: 'x'.repeat(70_000) }));
}

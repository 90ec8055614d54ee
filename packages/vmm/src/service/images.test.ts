import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

function replaceText(path: string): void {
  const text = readFileSync(path, 'latin1');
  writeFileSync(path, text.replace('{', '{"note":"\xff",'), 'latin1');
}

function fill(path: string): void {
  writeFileSync(path, JSON.stringify({ note: 'x'.repeat(70_000) }));
}

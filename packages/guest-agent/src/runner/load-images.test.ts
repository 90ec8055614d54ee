import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EngineName } from '@dstack-cloud/app';
import { readComposeFile } from '@dstack-cloud/app/compose-file';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type EngineImages, imagesByCommand } from './engine-images.ts';
import { loadImages } from './load-images.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'load-images-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A disk with one archive of the form of `docker save`. */
function disk(): string {
  mkdirSync(join(folder, 'image'));
  writeFileSync(join(folder, 'image/config.json'), '{}');
  const manifest = [{ Config: 'config.json', RepoTags: ['docker.io/example/one:1'] }];
  writeFileSync(join(folder, 'image/manifest.json'), JSON.stringify(manifest));
  execFileSync('tar', [
    '-cf',
    join(folder, 'one.tar'),
    '-C',
    join(folder, 'image'),
    'manifest.json',
    'config.json',
  ]);
  execFileSync('tar', ['-cf', join(folder, 'disk'), '-C', folder, 'one.tar']);
  return join(folder, 'disk');
}

/** An engine that has no image, and refuses each with these words. */
function refusing(words: string): EngineImages {
  const program = join(folder, 'engine');
  writeFileSync(join(folder, 'words'), words);
  writeFileSync(
    program,
    `#!/bin/sh\n[ "$1" = load ] || exit 1\ncat >/dev/null\ncat '${folder}/words' >&2\nexit 3\n`,
  );
  chmodSync(program, 0o755);
  return imagesByCommand({ engine: program as EngineName, env: { PATH: process.env['PATH'] ?? '' } });
}

it('tells why the engine does not load an image: what the host reads is short, and all of it can be seen', async () => {
  const file = readComposeFile('services:\n  web:\n    image: example/one:1\n');
  const load = (words: string) =>
    loadImages({
      disk: disk(),
      engine: refusing(words),
      file,
      env: {},
      say: () => undefined,
    });
  await expect(load(`${'x'.repeat(100_000)}\nno \u001b[2Jspace\u0007 left\n`)).rejects.toMatchObject({
    code: 'start-failed',
    message: expect.stringMatching(
      /does not load the image archive one\.tar: x{200,300}… \/ no .*space\\u\{7\} left$/,
    ),
  });
  rmSync(join(folder, 'image'), { recursive: true });
  await expect(load('')).rejects.toMatchObject({
    message: expect.stringMatching(/does not load the image archive one\.tar: status 3$/),
  });
});

/** The blocks of docs/nitro.md, in one shell, with a container image and files in the places of nitro-cli's. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { busyboxImage } from '../harness/busybox-image.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

describeWithPrograms('docs/nitro.md', ['busybox', 'openssl', 'cmp'], () => {
  let directory: string;
  beforeAll(async () => {
    await build();
    directory = mkdtempSync(join(tmpdir(), 'dstack-docs-'));
    const { archive } = await busyboxImage('registry.example/my-app:1.0', 'text');
    writeFileSync(join(directory, 'app.tar'), archive);
    mkdirSync(join(directory, 'blobs'));
    for (const name of ['bzImage', 'cmdline', 'init', 'nsm.ko'])
      writeFileSync(join(directory, 'blobs', name), `${name} of a test\n`);
  }, 240_000);
  afterAll(() => {
    if (directory) rmSync(directory, { recursive: true, force: true });
  });

  test('documented-nitro: images are built, reproduced, signed and checked', async () => {
    const { code, stdout, stderr } = await runCommand(
      ['bash', '-e', '-c', shellBlocks('docs/nitro.md').join('\n')],
      {
        cwd: directory,
        env: { PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`, HOME: directory },
        timeoutMs: 120_000,
      },
    );
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    expect(stdout).toMatch(/^PCR8: [0-9a-f]{96}$/m);
    expect(stdout).toContain('by "my company"');
    expect(stdout).toContain('"ImageName": "registry.example/my-app"');
    const measured = JSON.parse(readFileSync(join(directory, 'measurements.json'), 'utf8'));
    expect(stdout).toContain(`OS_IMAGE_HASH: ${measured.OS_IMAGE_HASH}`);
  }, 150_000);
});

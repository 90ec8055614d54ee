/** The blocks of docs/nitro.md, in one shell, with a container image and files in the places of nitro-cli's. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { createNitro } from '@dstack-cloud/tee-simulator';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { busyboxImage } from '../harness/busybox-image.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { codeBlocks, shellBlocks } from '../harness/shell-blocks.ts';

describeWithPrograms('docs/nitro.md', ['busybox', 'openssl', 'cmp', 'jq', 'xxd'], () => {
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
    expect(stdout).toContain('Verified OK');
    // The same by hand.
    expect(stdout).toContain(`${measured.OS_IMAGE_HASH.slice(2)}  -`);
  }, 150_000);

  /** The block of text that has this in it. */
  function block(language: string, part: string): string {
    const [found = '', ...others] = codeBlocks('docs/nitro.md', language).filter((one) => one.includes(part));
    expect([found, ...others]).toEqual([expect.stringContaining(part)]);
    return found;
  }
  const run = async (script: string, env: Record<string, string> = {}) =>
    await runCommand(['bash', '-e', '-c', script], {
      cwd: directory,
      env: { PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`, HOME: directory, ...env },
      timeoutMs: 120_000,
    });

  test('documented-nitro: the configuration of the proxy can be used', async () => {
    writeFileSync(join(directory, 'proxy.json'), block('json', '"connect"'));
    const { code, stdout, stderr } = await run('dstack-vsock-proxy --check --config proxy.json');
    expect([code, stdout, stderr]).toEqual([0, 'proxy.json can be used\n', '']);
  }, 60_000);

  test('documented-nitro: the entrypoint is one that has to be filled in', async () => {
    const { code, stderr } = await run(block('text', '__KMS_URL__'));
    expect([code, stderr]).toEqual([1, expect.stringContaining('is still the placeholder __KMS_URL__')]);
  }, 60_000);

  test('documented-nitro: the root of simulated enclaves is printed', async () => {
    const seed = join(directory, '.local/share/dstack-cloud');
    mkdirSync(seed, { recursive: true });
    writeFileSync(join(seed, 'platform.seed'), new Uint8Array(32).fill(5), { mode: 0o600 });
    const { stdout, stderr } = await run(block('text', 'dstack-tee-simulator root'));
    expect([stdout, stderr]).toEqual([createNitro(new Uint8Array(32).fill(5)).rootPem, '']);
  }, 60_000);
});

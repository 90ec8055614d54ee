/** docs/app-compose.md: the file that a deploy writes has the hash that `measure` says. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

let directory: string;
beforeAll(async () => {
  await build();
  directory = mkdtempSync(join(tmpdir(), 'dstack-docs-'));
}, 120_000);
afterAll(() => {
  if (directory) rmSync(directory, { recursive: true, force: true });
});

test('documented-app-compose: prepare writes what measure hashes', async () => {
  const { code, stdout, stderr } = await runCommand(
    ['bash', '-e', '-c', shellBlocks('docs/app-compose.md').join('\n')],
    {
      cwd: directory,
      env: {
        PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`,
        // Nobody's configuration.
        HOME: directory,
        XDG_CONFIG_HOME: '',
        DSTACK_CLOUD_CONFIG: '',
      },
      timeoutMs: 60_000,
    },
  );
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  const [file, measured] = stdout.trimEnd().split('\n').slice(-2);
  expect(measured).toMatch(/^[0-9a-f]{64}$/);
  expect(file).toBe(`${measured}  shop/shared/app-compose.json`);
}, 90_000);

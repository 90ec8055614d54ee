/** docs/conformance.md: its block runs, and our agent conforms in it. */
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

test('documented-conformance: every case of the agent has its line', async () => {
  const script = [
    "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
    ...shellBlocks('docs/conformance.md'),
  ].join('\n');
  const { code, stdout, stderr } = await runCommand(['bash', '-e', '-c', script], {
    cwd: directory,
    env: { PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}` },
    timeoutMs: 60_000,
  });
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).toMatch(/^passed {3}agent\.get-key\.stable$/m);
  expect(stdout).toMatch(/^\d\d passed, 0 failed, \d skipped$/m);
}, 90_000);

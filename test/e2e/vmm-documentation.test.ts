/** The service that docs/vmm.md starts: it comes up and answers. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

/** Ends what the page leaves running, also when a line before fails. */
const BEFORE = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT";

let directory: string;
beforeAll(async () => {
  await build();
  directory = mkdtempSync(join(tmpdir(), 'dstack-docs-'));
  mkdirSync(join(directory, 'images'));
}, 120_000);
afterAll(() => {
  if (directory) rmSync(directory, { recursive: true, force: true });
});

test('documented-vmm: the service comes up and answers', async () => {
  const script = [BEFORE, ...shellBlocks('docs/vmm.md')].join('\n');
  const { code, stdout, stderr } = await runCommand(['bash', '-e', '-c', script], {
    cwd: directory,
    env: { PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`, HOME: directory },
    timeoutMs: 60_000,
  });
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).toContain('The configuration is valid');
  expect(stdout).toContain('{"vms":[],"port_mapping_enabled":true,"total":0}');
}, 90_000);

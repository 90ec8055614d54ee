/** docs/simulator.md: an agent for an application, whose evidence a verifier accepts; a machine made by hand. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

/** Ends what the page leaves running, also when a line before fails. */
const BEFORE = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT";
const AFTER = `
for i in $(seq 100); do [ -S tsm.sock ] && break; sleep 0.1; done
[ -S tsm.sock ] && echo "socket is there"
head -n 1 root.pem
sleep 0.5`;

let directory: string;
beforeAll(async () => {
  await build();
  directory = mkdtempSync(join(tmpdir(), 'dstack-docs-'));
}, 120_000);
afterAll(() => {
  if (directory) rmSync(directory, { recursive: true, force: true });
});

test('documented-simulator: the agent serves and is verified, the machine by hand comes up', async () => {
  const script = [BEFORE, ...shellBlocks('docs/simulator.md'), AFTER].join('\n');
  const { code, stdout, stderr } = await runCommand(['bash', '-e', '-c', script], {
    cwd: directory,
    env: { PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}` },
    timeoutMs: 60_000,
  });
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).toContain('"signature_chain"');
  expect(stdout).toMatch(/simulated/i);
  expect(stdout).toContain('socket is there');
  expect(stdout).toContain('-----BEGIN CERTIFICATE-----');
  expect(stdout + stderr).toMatch(/http:\/\/127\.0\.0\.1:\d+/);
}, 90_000);

/** `npm run demo`, whole: every step, both refusals, and nothing left behind. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { processesIn, repository, runCommand } from '../harness/run-command.ts';

type DemoJson = {
  simulated: boolean;
  steps: Array<{ name: string; ok: boolean; ms: number; detail: string }>;
  kms: { url: string; k256_pubkey: string };
  app: { app_id: string; compose_hash: string; instance_id: string; url: string; address: string };
  denied: Array<{ when: string; error: string }>;
  verify: { is_valid: boolean; simulated: boolean };
  total_ms: number;
};

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-e2e-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const demo = ['npm', 'run', '--silent', 'demo', '--', '--once', '--json'];

function expectComplete(json: DemoJson): void {
  expect(json.simulated).toBe(true);
  expect(json.steps.filter(({ ok }) => !ok)).toEqual([]);
  expect(json.steps.length).toBeGreaterThan(10);
  expect(json.denied.map(({ when }) => when)).toEqual(['unregistered', 'revoked']);
  for (const { error } of json.denied) expect(error).toContain('Boot denied: Compose hash not allowed');
  expect(json.verify).toMatchObject({ is_valid: true, simulated: true });
  expect(json.app.address).toMatch(/^0x[0-9a-fA-F]{40}$/);
  expect(json.kms.k256_pubkey).toMatch(/^[0-9a-f]{66}$/);
}

describe('demo', () => {
  test('first-attested-app: from nothing to an attested application with keys, and both refusals', async () => {
    const { code, stdout, stderr } = await runCommand(demo, {
      env: { TMPDIR: directory },
      timeoutMs: 180_000,
    });
    expect(code, stderr).toBe(0);
    expectComplete(JSON.parse(stdout) as DemoJson);
    expect(readdirSync(directory).filter((name) => name.startsWith('dstack-'))).toEqual([]);
    if (process.platform === 'linux') expect(processesIn(directory)).toEqual([]);
  }, 200_000);

  test('two-demos: a second demo beside the first works', async () => {
    const runs = await Promise.all(
      ['a', 'b'].map(() => runCommand(demo, { env: { TMPDIR: directory }, timeoutMs: 240_000 })),
    );
    for (const { code, stdout, stderr } of runs) {
      expect(code, stderr).toBe(0);
      expectComplete(JSON.parse(stdout) as DemoJson);
    }
  }, 260_000);

  test.skipIf(process.platform !== 'linux')(
    'interrupted-demo: Ctrl-C in the middle leaves no process and no file',
    async () => {
      const child = spawn('npm', ['run', '--silent', 'demo'], {
        cwd: repository,
        env: { ...process.env, TMPDIR: directory, NO_COLOR: '1' },
        stdio: ['ignore', 'pipe', 'inherit'],
        detached: true,
      });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      await new Promise<void>((resolve, reject) => {
        let output = '';
        child.once('exit', () => reject(new Error(`The demo ended before it was interrupted:\n${output}`)));
        child.stdout?.on('data', (chunk: Buffer) => {
          output += chunk.toString('utf8');
          if (output.includes('Create two projects')) resolve();
        });
      });
      child.removeAllListeners('exit');
      // As a terminal does: to the whole foreground group.
      process.kill(-(child.pid ?? 0), 'SIGINT');
      await Promise.race([ended, new Promise((resolve) => child.once('exit', resolve))]);
      const deadline = Date.now() + 20_000;
      while (processesIn(directory).length > 0 && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      expect(processesIn(directory)).toEqual([]);
      expect(readdirSync(directory).filter((name) => name.startsWith('dstack-'))).toEqual([]);
    },
    120_000,
  );
});

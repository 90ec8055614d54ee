/** `npm run demo`, whole: every step, both refusals, and nothing left behind. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DEMO, type DemoJson, expectComplete } from '../harness/demo-json.ts';
import { processesIn, repository, runCommand } from '../harness/run-command.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-e2e-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('demo', () => {
  test('first-attested-app: from nothing to an attested application with keys, and both refusals', async () => {
    const { code, stdout, stderr } = await runCommand(DEMO, {
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
      ['a', 'b'].map(() => runCommand(DEMO, { env: { TMPDIR: directory }, timeoutMs: 240_000 })),
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

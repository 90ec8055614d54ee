/** `| head` and the like: who closes the output of a command ends it, or lets it go on, without a stack trace. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repository } from '../harness/run-command.ts';

interface Ended {
  readonly code: number | null;
  readonly stderr: string;
}

/** Runs a program from source whose standard output nobody reads from the beginning. */
function unread(program: string, args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const flags = ['--import', import.meta.resolve('tsx'), '-C', '@dstack/source', join(repository, program)];
    const child = spawn(process.execPath, [...flags, ...args], {
      cwd: repository,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
    });
    child.stdout.destroy();
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString('utf8');
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stderr }));
  });
}

describe('a closed output', () => {
  it.each([
    ['cli/src/main.ts', ['--help']],
    ['cli/src/main.ts', ['new', '--help']],
    ['scripts/src/e2e.ts', ['--help']],
    ['scripts/src/demo/main.ts', ['--help']],
    ['test/bench/main.ts', ['--help']],
    ['packages/vmm/src/main.ts', ['list', '/nosuch']],
  ])('of %s %j is no error', async (program, args) => {
    expect(await unread(program, args)).toEqual({ code: 0, stderr: '' });
  });

  it('does not stop a command half way', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'closed-output-'));
    try {
      const { code, stderr } = await unread(
        'cli/src/main.ts',
        ['new', 'app', '--platform', 'local', '-C', directory],
        { HOME: directory },
      );
      expect(code, stderr).toBe(0);
      expect(stderr).not.toMatch(/ at |EPIPE/);
      for (const name of ['app.json', 'docker-compose.yaml', '.env'])
        expect(existsSync(join(directory, 'app', name))).toBe(true);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

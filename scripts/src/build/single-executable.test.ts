import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { repository } from './paths.ts';
import { makeSingleExecutable } from './single-executable.ts';

let directory: string;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'single-'));
  await makeSingleExecutable({ repository, output: join(directory, 'dstack-util') });
}, 180_000);
afterAll(() => rmSync(directory, { recursive: true }));

/** In an environment without a PATH, so without any Node. */
function run(name: string, args: readonly string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(join(directory, name), args, {
    env: { TMPDIR: directory, ...env },
    cwd: '/',
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

it('is both programs, by the name that it is started by', () => {
  expect(run('dstack-util', ['--version']).stdout).toMatch(/^dstack-util \d/);
  expect(readlinkSync(join(directory, 'dstack-enclave-init'))).toBe('dstack-util');
  expect(run('dstack-enclave-init', ['--version']).stdout).toMatch(/^dstack-enclave-init \d/);
  symlinkSync('dstack-util', join(directory, 'another'));
  expect(run('another', ['rand', '-n', '4', '-x'])).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^[0-9a-f]{8}$/),
  });
  expect(run('dstack-util', ['frobnicate']).status).toBe(2);
});

it('calls drivers by the native module in it, and leaves no file behind', () => {
  const { status, stderr } = run('dstack-util', ['attest', '--hex'], { DSTACK_NSM: '/dev/null' });
  expect(status).toBe(1);
  // ENOTTY of the kernel: the call was made.
  expect(stderr).toContain('errno 25');
  expect(spawnSync('ls', [directory], { encoding: 'utf8' }).stdout).not.toContain('dstack-native-');
});

it('has the same bytes again: registers of enclaves depend on them', async () => {
  const hash = (name: string) =>
    createHash('sha256')
      .update(readFileSync(join(directory, name)))
      .digest('hex');
  await makeSingleExecutable({ repository, output: join(directory, 'again/dstack-util') });
  expect(hash('again/dstack-util')).toBe(hash('dstack-util'));
}, 180_000);

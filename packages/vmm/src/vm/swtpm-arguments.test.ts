import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { canonical } from '../folder/machine-folder.ts';
import { makeRunFolder, removeRunFolder } from '../folder/run-folder.ts';
import { swtpmArguments } from './swtpm-arguments.ts';

let root: string;
let dir: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'swtpm-'));
  dir = join(root, 'a,uid', 'vm');
  mkdirSync(join(dir, 'tpm'), { recursive: true });
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

describeWithPrograms('swtpm', ['swtpm'], () => {
  it('starts for a machine whose path has a comma', async () => {
    const socket = join(root, 'tpm.sock');
    const program = spawn('swtpm', swtpmArguments('tpm', socket), { cwd: dir, stdio: 'ignore' });
    const ended = once(program, 'exit');
    await vi.waitFor(() => expect(existsSync(socket) || program.exitCode !== null).toBe(true), 10_000);
    expect(program.exitCode).toBeNull();
    program.kill();
    await ended;
  });
});

describe('a run folder', () => {
  it('has no comma in its path, whatever TMPDIR is', () => {
    const owner = { id: '11111111-1111-4111-8111-111111111111', dir: canonical(dir) };
    vi.stubEnv('TMPDIR', join(root, 'a,uid'));
    const made = makeRunFolder(owner);
    expect(made).toMatch(/^\/tmp\/dstack-[^,]+$/);
    expect(removeRunFolder(made, owner)).toBe(true);
  });
});

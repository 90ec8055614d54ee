/** The command line and real machines against what lies in files: paths of strangers, damage, a guest that talks much. */
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCvm, processIdentity, stopCvm } from '@dstack-cloud/vmm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Outcome, processesIn, repository, runCommand } from '../harness/run-command.ts';

let directory: string;
let runPath: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-e2e-'));
  runPath = join(directory, 'vm');
  const local = { run_path: runPath, seed_file: join(directory, 'seed'), engine: 'process' };
  writeFileSync(join(directory, 'config.json'), JSON.stringify({ platform: 'local', local }), {
    mode: 0o600,
  });
});
afterEach(async () => {
  if (existsSync(runPath))
    for (const name of readdirSync(runPath)) await stopCvm(join(runPath, name)).catch(() => 0);
  rmSync(directory, { recursive: true, force: true });
});

const cli = (...args: string[]): Promise<Outcome> =>
  runCommand([join(repository, 'dist/bin/dstack-cloud'), '--json', '--yes', ...args], {
    cwd: directory,
    env: { DSTACK_CLOUD_CONFIG: join(directory, 'config.json'), TMPDIR: directory },
    timeoutMs: 90_000,
  });

/** A project whose machine needs no key service. */
async function project(name: string, command: string): Promise<string> {
  const made = await cli('new', name, '--key-provider', 'none');
  expect(made.code, made.stdout + made.stderr).toBe(0);
  const path = join(directory, name);
  const compose = `services:\n  app:\n    image: none@sha256:${'0'.repeat(64)}\n    restart: "no"\n    command: ${command}\n`;
  writeFileSync(join(path, 'docker-compose.yaml'), compose);
  return path;
}

describe('machines', () => {
  test('paths-from-files: a project that somebody else made deletes, follows and writes no path of the user', async () => {
    const path = await project('cloned', '["sleep", "600"]');
    const precious = join(directory, 'precious');
    mkdirSync(precious, { mode: 0o700 });
    writeFileSync(join(precious, 'thesis'), 'years of work');
    // A whole machine, but one that came with the project, whose state names folders of the user.
    const inside = join(path, 'machine');
    const { id } = await createCvm({
      dir: inside,
      name: 'cloned',
      appId: '11'.repeat(20),
      image: 'dstack-sim-0.6.0',
      shared: { 'app-compose.json': new Uint8Array(), '.sys-config.json': new Uint8Array() },
      seedFile: join(directory, 'seed'),
    });
    const state = JSON.parse(readFileSync(join(inside, 'vm-state.json'), 'utf8')) as object;
    const own = processIdentity(process.pid);
    const bait = join(directory, 'dstack-abcdef');
    mkdirSync(bait, { mode: 0o700 });
    const mark = `${id}\n${runPath}/gone\n1-1-1-1\n`;
    writeFileSync(join(bait, 'machine'), mark);
    chmodSync(bait, 0o750);
    mkdirSync(runPath, { mode: 0o700 });
    symlinkSync(inside, join(runPath, 'linked'));
    mkdirSync(join(runPath, 'empty'), { mode: 0o700 });
    writeFileSync(join(runPath, 'empty/notes'), 'mine');

    const machines = [
      inside,
      precious,
      directory,
      '/',
      join(runPath, '..'),
      join(runPath, 'linked'),
      join(runPath, 'empty'),
    ];
    for (const run_dir of [precious, bait, join(directory, 'dstack-link'), `${precious}/../precious`]) {
      if (!existsSync(join(directory, 'dstack-link'))) symlinkSync(precious, join(directory, 'dstack-link'));
      // Signals to the test itself would end it: they must not come either.
      const forged = { ...state, status: 'running', run_dir, supervisor: own };
      writeFileSync(join(inside, 'vm-state.json'), JSON.stringify(forged));
      for (const machine_dir of run_dir === precious ? machines : [inside]) {
        const text = {
          schema: 1,
          platform: 'local',
          instance_name: 'cloned',
          status: 'RUNNING',
          machine_dir,
        };
        writeFileSync(join(path, 'state.json'), JSON.stringify(text));
        const commands = [['stop'], ['remove', '--force', '--yes']];
        if (machine_dir === inside) commands.push(['logs'], ['status']);
        const outcomes = await Promise.all(commands.map((args) => cli('-C', path, ...args)));
        for (const { code, stdout } of outcomes.slice(0, 2)) {
          if (machine_dir === join(runPath, 'empty') && code === 0) continue;
          expect(code, `${machine_dir}: ${stdout}`).not.toBe(0);
        }
      }
    }
    expect(readFileSync(join(precious, 'thesis'), 'utf8')).toBe('years of work');
    expect(readFileSync(join(bait, 'machine'), 'utf8')).toBe(mark);
    expect(readFileSync(join(runPath, 'empty/notes'), 'utf8')).toBe('mine');
    expect(readFileSync(join(inside, 'vm-manifest.json'), 'utf8')).toContain(id);

    // The same project without the state that came with it works, and its own machine goes as it should.
    rmSync(join(path, 'state.json'));
    rmSync(join(runPath, 'linked'));
    const deployed = await cli('-C', path, 'deploy');
    expect(deployed.code, deployed.stdout + deployed.stderr).toBe(0);
    const { machine_dir } = JSON.parse(readFileSync(join(path, 'state.json'), 'utf8')) as {
      machine_dir: string;
    };
    for (const [name, make] of [
      ['serial.log', symlinkSync],
      ['app.log', linkSync],
    ] as const) {
      rmSync(join(machine_dir, 'logs', name), { force: true });
      make(join(precious, 'thesis'), join(machine_dir, 'logs', name));
    }
    expect((await cli('-C', path, 'logs')).stdout).not.toContain('years of work');
    expect((await cli('-C', path, 'remove', '--force', '--yes')).code).toBe(0);
    expect(existsSync(machine_dir)).toBe(false);
    expect(readFileSync(join(precious, 'thesis'), 'utf8')).toBe('years of work');
    expect(processesIn(machine_dir)).toEqual([]);
  }, 120_000);

  test('damaged-state-stays-visible: a machine is listed, stopped and removed whatever its guest says and its files hold', async () => {
    const path = await project('talker', '["sh", "-c", "(setsid sleep 601 &); exec sleep 600"]');
    const deployed = await cli('-C', path, 'deploy');
    expect(deployed.code, deployed.stdout + deployed.stderr).toBe(0);
    const dir = (JSON.parse(readFileSync(join(path, 'state.json'), 'utf8')) as { machine_dir: string })
      .machine_dir;
    const socket = join(runFolder(dir), 'host.sock');
    const payload = JSON.stringify({ event: 'app.says', payload: '\u0001'.repeat(4096) });
    for (let i = 0; i < 25; i += 1) await notify(socket, payload);
    const listed = async () =>
      (JSON.parse((await cli('list')).stdout) as { name: string; status: string; error: string | null }[])[0];
    expect(await listed()).toMatchObject({ name: 'dstack-talker', status: 'RUNNING' });
    expect(JSON.parse((await cli('-C', path, 'status')).stdout)).toMatchObject({ status: 'RUNNING' });

    // Now nobody can read it, and it runs all the same.
    writeFileSync(join(dir, 'vm-state.json'), '{');
    expect(await listed()).toMatchObject({
      name: 'dstack-talker',
      status: 'DAMAGED',
      error: expect.stringContaining('vm-state.json'),
    });
    const status = await cli('-C', path, 'status');
    expect(JSON.parse(status.stdout)).toMatchObject({ status: 'DAMAGED' });
    expect(processesIn(dir).length).toBeGreaterThan(1);
    const stopped = await cli('-C', path, 'stop');
    expect(JSON.parse(stopped.stdout)).toMatchObject({ stopped: true });
    expect(processesIn(dir)).toEqual([]);

    // It can be started again; then its folder vanishes under it.
    expect((await cli('-C', path, 'start')).code).toBe(0);
    rmSync(dir, { recursive: true });
    expect((await cli('-C', path, 'stop')).code).toBe(0);
    expect(processesIn(dir)).toEqual([]);
    expect(JSON.parse((await cli('list')).stdout)).toEqual([]);

    // What is no state of a project is not taken for none: the machine would be forgotten.
    mkdirSync(dir, { mode: 0o700 });
    writeFileSync(join(dir, 'vm-manifest.json'), 'damaged');
    expect(await listed()).toMatchObject({ status: 'DAMAGED' });
    expect((await cli('-C', path, 'remove', '--force', '--yes')).code).toBe(0);
    expect(existsSync(dir)).toBe(false);
  }, 120_000);
});

function runFolder(dir: string): string {
  return (JSON.parse(readFileSync(join(dir, 'vm-state.json'), 'utf8')) as { run_dir: string }).run_dir;
}

async function notify(socketPath: string, body: string): Promise<void> {
  const { request } = await import('node:http');
  await new Promise<void>((resolve, reject) => {
    const outgoing = request({ socketPath, path: '/api/Notify?json', method: 'POST' }, (response) => {
      response.resume().once('end', resolve);
    });
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

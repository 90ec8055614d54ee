/** A machine with a container engine whose supervisor, guard and runner are killed: nothing of it stays. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Dockerd, importNodeImage, startDockerd } from '../harness/dockerd.ts';
import { repository, runCommand } from '../harness/run-command.ts';

const isRoot = process.getuid?.() === 0;
const IMAGE = 'dstack-test/node:1';

describeWithPrograms(
  'machine with containers',
  ['dockerd', 'docker-compose', 'docker', ...(isRoot ? [] : ['root'])],
  () => {
    let engine: Dockerd;
    let directory: string;
    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'dstack-e2e-'));
      engine = await startDockerd();
      importNodeImage(engine.env, IMAGE);
    }, 120_000);
    afterAll(async () => {
      await engine?.stop();
      rmSync(directory, { recursive: true, force: true });
    }, 60_000);

    const docker = (...args: string[]): string[] =>
      execFileSync('docker', args, { env: { ...process.env, ...engine.env }, encoding: 'utf8' })
        .split('\n')
        .filter((line) => line !== '');

    test('killed-supervisor-containers: containers and networks of a killed supervisor end with the next stop', async () => {
      const local = {
        run_path: join(directory, 'vm'),
        seed_file: join(directory, 'seed'),
        engine: 'docker',
        env: engine.env,
      };
      writeFileSync(join(directory, 'config.json'), JSON.stringify({ platform: 'local', local }), {
        mode: 0o600,
      });
      const cli = (...args: string[]) =>
        runCommand([join(repository, 'dist/bin/dstack-cloud'), '--json', '--yes', ...args], {
          cwd: directory,
          env: { DSTACK_CLOUD_CONFIG: join(directory, 'config.json') },
          timeoutMs: 120_000,
        });
      expect((await cli('new', 'app', '--key-provider', 'none')).code).toBe(0);
      const project = join(directory, 'app');
      const service = `image: ${IMAGE}\n    command: ["node", "-e", "setInterval(() => 0, 60000)"]\n    stop_grace_period: 1s`;
      writeFileSync(join(project, 'docker-compose.yaml'), `services:\n  app:\n    ${service}\n`);
      const deployed = await cli('-C', project, 'deploy');
      expect(deployed.code, deployed.stdout + deployed.stderr).toBe(0);
      expect(docker('ps', '--quiet')).toHaveLength(1);
      // Another one, of nobody: it must stay.
      const [other] = docker(
        'run',
        '--detach',
        '--network',
        'none',
        IMAGE,
        'node',
        '-e',
        'setInterval(() => 0, 60000)',
      );
      const networks = docker('network', 'ls', '--quiet').length;

      const state = JSON.parse(readFileSync(join(project, 'state.json'), 'utf8')) as { machine_dir: string };
      const { supervisor } = JSON.parse(readFileSync(join(state.machine_dir, 'vm-state.json'), 'utf8')) as {
        supervisor: { pid: number };
      };
      // All at once, so that none can clean up: the supervisor, its guard, and the programs of the machine.
      const members = membersOf(supervisor.pid, state.machine_dir);
      for (const pid of members) process.kill(pid, 'SIGSTOP');
      for (const pid of members) process.kill(pid, 'SIGKILL');
      expect(docker('ps', '--quiet')).toHaveLength(2);
      const stopped = await cli('-C', project, 'stop');
      expect(JSON.parse(stopped.stdout), stopped.stderr).toMatchObject({ stopped: true });
      expect(docker('ps', '--all', '--quiet', '--no-trunc')).toEqual([other]);
      expect(docker('network', 'ls', '--quiet').length).toBe(networks - 1);
      expect((await cli('-C', project, 'remove', '--yes')).code).toBe(0);
    }, 180_000);
  },
);

/** The supervisor, its children (the guard is one), and all with the machine's mark. */
function membersOf(supervisor: number, dir: string): number[] {
  const children = readFileSync(`/proc/${supervisor}/task/${supervisor}/children`, 'utf8')
    .trim()
    .split(' ')
    .map(Number);
  const marked = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`DSTACK_MACHINE_DIR=${dir}`);
      } catch {
        return false;
      }
    })
    .map(Number);
  return [...new Set([supervisor, ...children, ...marked])];
}

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseGuestConfig } from '../config/guest-config.ts';
import { runApp } from './run-app.ts';
import type { RunningApp } from './run-processes.ts';
import { ServiceLog } from './service-log.ts';

let dir = '';
let app: RunningApp | undefined;
let events: string[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dstack-run-'));
  events = [];
});
afterEach(async () => {
  await app?.stop();
  app = undefined;
  rmSync(dir, { recursive: true, force: true });
});

const start = async (members: object, env: Record<string, string> = {}): Promise<void> => {
  const shared = join(dir, 'dstack/.host-shared');
  mkdirSync(shared, { recursive: true });
  mkdirSync(join(dir, 'run'), { recursive: true });
  const compose = { manifest_version: 2, name: 'x', runner: 'docker-compose', ...members };
  writeFileSync(join(shared, 'app-compose.json'), JSON.stringify(compose));
  writeFileSync(
    join(shared, '.sys-config.json'),
    JSON.stringify({ pccs_url: 'https://pccs', vm_config: '{}' }),
  );
  writeFileSync(join(shared, '.decrypted-env.json'), JSON.stringify(env));
  const config = {
    root: dir,
    runner: { engine: 'process', log_dir: join(dir, 'logs'), env: { MODE: 'demo' } },
  };
  app = await runApp({
    config: parseGuestConfig(JSON.stringify(config), dir),
    notify: (event, payload) => {
      events.push(`${event} ${payload}`);
      return Promise.resolve();
    },
    say: () => undefined,
    machineEnv: { PATH: process.env['PATH'], SECRET_OF_HOST: 'x' },
    signal: AbortSignal.timeout(20_000),
  });
};
const log = (name: string): string => readFileSync(join(dir, 'logs', `${name}.log`), 'utf8');
const echo = 'services: {web: {command: [sh, -c, "echo $TOKEN $EXTRA $PCCS_URL $MODE"]}}';

describeWithPrograms('runApp', ['bash'], () => {
  it('interpolates from the decrypted environment and from what pre_launch_script exports', async () => {
    await start(
      { docker_compose_file: echo, pre_launch_script: 'export EXTRA="more $TOKEN"; LOCAL=1' },
      { TOKEN: 's3' },
    );
    await expect.poll(() => log('web')).toBe('s3 more s3 https://pccs demo\n');
    expect(events).toEqual([
      'boot.progress pre-launch',
      'boot.progress starting containers',
      'boot.progress done',
    ]);
  });

  it('does not wait for what the script leaves in the background', async () => {
    await start({ docker_compose_file: echo, pre_launch_script: 'sleep 3 & export EXTRA=yes' });
    await expect.poll(() => log('web')).toContain('yes');
  }, 2_500);

  it.each([
    ['fails', 'false', /status 1/],
    ['exits early', 'exit 0', /called exit/],
    ['has a mistake', 'if', /status/],
  ])('does not start an application whose pre_launch_script %s', async (_, script, message) => {
    await expect(start({ docker_compose_file: echo, pre_launch_script: script })).rejects.toThrow(message);
    expect(events).not.toContain('boot.progress starting containers');
  });

  it('runner bash', async () => {
    await start({ runner: 'bash', bash_script: 'echo "from bash: $TOKEN"' }, { TOKEN: 's3' });
    await expect.poll(() => log('bash')).toBe('from bash: s3\n');
  });
});

describe('runApp refuses', () => {
  it.each([
    ['a runner that it has not', { runner: 'nerdctl-compose' }, 'app-compose-unsupported'],
    ['no compose file', {}, 'app-compose-unsupported'],
    ['a compose file that is no YAML', { docker_compose_file: '{' }, 'compose-file-invalid'],
    [
      'a service without a command',
      { docker_compose_file: 'services: {a: {image: x}}' },
      'compose-file-unsupported',
    ],
  ])('%s', async (_, members, code) => {
    await expect(start(members)).rejects.toMatchObject({ code });
  });

  it('a machine that was not prepared', async () => {
    await start({ runner: 'bash', bash_script: '' });
    await app?.stop();
    rmSync(join(dir, 'dstack/.host-shared/.decrypted-env.json'));
    const config = parseGuestConfig(JSON.stringify({ root: dir }), dir);
    const quiet = {
      notify: () => Promise.resolve(),
      say: () => undefined,
      machineEnv: {},
      signal: AbortSignal.timeout(5_000),
    };
    await expect(runApp({ config, ...quiet })).rejects.toMatchObject({ code: 'file-missing' });
  });
});

describe('ServiceLog', () => {
  it('moves a full file aside and loses nothing after it', () => {
    const path = join(dir, 'x.log');
    const service = new ServiceLog(path);
    const block = new Uint8Array(6 * 1024 * 1024).fill(0x61);
    service.write(block);
    service.write(block);
    service.write(Buffer.from('end'));
    service.close();
    service.write(Buffer.from('late'));
    expect(readFileSync(`${path}.1`)).toHaveLength(block.length);
    expect(readFileSync(path).subarray(-3).toString()).toBe('end');
  });
});

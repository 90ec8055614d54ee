/** What a user is told about a compose file that runs without a container engine, and what stays as it was. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { describeWithFixtures, fixture } from '../support/fixtures.ts';

const STAYING = 'public-cases/compose/files-that-do-not-travel.yaml';

const silent = `services:
  web:
    image: nginx
    command: [sleep, "600"]
    restart: "no"
    user: "1000"
    healthcheck: { test: ["CMD", "true"] }
    ports: ["80:80", "443:443"]
`;
const answering = `services:
  web:
    command: [node, -e, "require('http').createServer((q, r) => r.end('up')).listen(process.env.PORT)"]
    ports: ["80:80"]
`;

describeWithFixtures('plain processes', STAYING, () => {
  let directory: string;
  let project: string;
  let config: string;
  const cli = (...args: string[]) =>
    runCommand([join(repository, 'dist/bin/dstack-cloud'), '--json', '-C', project, ...args], {
      env: { DSTACK_CLOUD_CONFIG: config },
    });
  const compose = (text: string): void => writeFileSync(join(project, 'docker-compose.yaml'), text);
  const state = () =>
    JSON.parse(readFileSync(join(project, 'state.json'), 'utf8')) as {
      status: string;
      compose_hash: string;
      urls: { app: string };
    };

  beforeAll(async () => {
    await build();
    directory = mkdtempSync(join(tmpdir(), 'dstack-plain-'));
    project = join(directory, 'app');
    mkdirSync(project);
    config = join(directory, 'config.json');
    const local = { run_path: join(directory, 'vm'), seed_file: join(directory, 'seed'), engine: 'process' };
    writeFileSync(config, JSON.stringify({ local }), { mode: 0o600 });
    const app = { name: 'plain', platform: 'local', os_image: 'dstack-sim-0.6.0', key_provider: 'none' };
    const identity = { app_id: '11'.repeat(20), instance_id_seed: '22'.repeat(20) };
    writeFileSync(join(project, 'app.json'), JSON.stringify({ ...app, ...identity }));
  }, 120_000);
  afterAll(async () => {
    await cli('--yes', 'remove');
    rmSync(directory, { recursive: true, force: true });
  }, 60_000);

  test('plain-processes: deploy says once that nothing is isolated, what is not done, and which URL is silent', async () => {
    compose(silent);
    const first = await cli('deploy');
    expect(first.code, first.stderr).toBe(0);
    expect(first.stderr.match(/WITHOUT ISOLATION/g)).toHaveLength(1);
    expect(first.stderr).toContain('Not done for plain processes: user of web; healthcheck of web');
    expect(first.stderr).toContain('nothing maps port 80 to it');
    expect(first.stderr).toContain('Not mapped for plain processes: port 443 of web');
    expect(first.stderr).toMatch(/app: http:\/\/127\.0\.0\.1:\d+ does not answer \(ECONNREFUSED\)/);
    expect(JSON.parse(first.stdout)).toMatchObject({
      silent_urls: [expect.stringContaining('does not answer')],
    });

    compose(answering);
    const second = await cli('deploy');
    expect(second.code, second.stderr).toBe(0);
    expect(second.stderr).not.toContain('does not answer');
    expect(await (await fetch(state().urls.app)).text()).toBe('up');
  }, 120_000);

  test('plain-processes: what cannot run is refused with its place, and the running machine stays', async () => {
    compose(answering);
    expect((await cli('deploy')).code).toBe(0);
    const before = state();
    for (const [text, problem] of [
      ['services:\n  a: { image: nginx }', 'docker-compose.yaml:2:6: service a declares no command'],
      [
        'services:\n  a: { command: x, volumes_from: [b] }\n  b: { command: x }',
        'docker-compose.yaml:2:34: service a: volumes_from',
      ],
      [
        'services:\n  a: { command: x, depends_on: [a] }',
        'docker-compose.yaml:2:33: services depend on each other: a -> a',
      ],
      ['services:\n  a: { command: x, command: y }', 'docker-compose.yaml:2:20: "command" is there twice'],
      ['a: &a [*a]\nservices: {a: {command: x}}', 'docker-compose.yaml:1:8: the alias *a stands inside'],
    ] as const) {
      compose(text);
      const { code, stderr } = await cli('deploy');
      expect(code, stderr).toBe(1);
      expect(stderr).toContain(problem);
    }
    expect(state()).toEqual(before);
    expect(await (await fetch(before.urls.app)).text()).toBe('up');
  }, 120_000);

  test('plain-processes: files that do not travel are named with the way out, and refused where nothing can start without', async () => {
    compose(new TextDecoder().decode(fixture(STAYING)));
    const measured = await cli('measure');
    expect(measured.code, measured.stderr).toBe(0);
    for (const file of ['.env', 'base.yml', './s.txt', './c.conf', 'other.yml'])
      expect(measured.stderr).toMatch(
        new RegExp(`Warning: .*the file ${file.replaceAll('.', '\\.')} does not travel`),
      );
    const deployed = await cli('deploy');
    expect(deployed.code).toBe(1);
    for (const file of ['base.yml', './s.txt', './c.conf', 'other.yml'])
      expect(deployed.stderr).toContain(`the file ${file} does not travel`);
  }, 60_000);
});

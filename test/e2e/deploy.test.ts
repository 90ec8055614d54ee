/** The command line against a real key service and chain: what a deploy takes from `.env`, and what it asks before it stops. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithFixtures, fixture, fixtureText } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { stateOf, supervisorOf } from '../harness/local-lab.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { type Stack, startStack } from '../harness/stack.ts';

let stack: Stack;
let directory: string;
let project: string;
let count = 0;
beforeAll(async () => {
  stack = await startStack();
  directory = mkdtempSync(join(tmpdir(), 'dstack-deploy-'));
}, 120_000);
afterAll(async () => {
  for (const name of readdirSync(directory)) await cliIn(join(directory, name), ['--yes', 'remove']);
  await stack?.stop();
  if (directory) rmSync(directory, { recursive: true, force: true });
}, 90_000);
beforeEach(async () => {
  project = join(directory, `app${count++}`);
  const made = await cliIn(directory, ['new', project]);
  expect(made.code, made.stderr).toBe(0);
});

const cliIn = (cwd: string, args: readonly string[], input?: string) =>
  runCommand([join(repository, 'dist/bin/dstack-cloud'), ...args], {
    cwd,
    env: { DSTACK_CLOUD_CONFIG: stack.config },
    timeoutMs: 90_000,
    ...(input === undefined ? {} : { input }),
  });
const cli = (...args: string[]) => cliIn(project, args);

/** What the application answers; a deploy does not wait until it listens. */
async function page(): Promise<Record<string, string>> {
  const { urls } = stateOf(project) as unknown as { urls: { app: string } };
  for (let tries = 0; ; tries += 1) {
    const response = await fetch(urls.app, { headers: { accept: 'application/json' } }).catch(
      (error: unknown) => error,
    );
    if (response instanceof Response && response.ok) return (await response.json()) as Record<string, string>;
    if (tries === 100) throw new Error('The application does not answer', { cause: response });
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** All that is not secret by itself: what a machine publishes, logs and remembers, and the project but `.env`. */
function publicText(): string {
  const { machine_dir } = stateOf(project);
  const folders = [
    project,
    join(project, 'shared'),
    machine_dir,
    ...['shared', 'logs', 'logs/containers'].map((name) => join(machine_dir, name)),
  ];
  return folders
    .flatMap((folder) =>
      readdirSync(folder)
        .filter((name) => name !== '.env')
        .map((name) => join(folder, name)),
    )
    .filter((path) => statSync(path).isFile())
    .map((path) => readFileSync(path, 'latin1'))
    .join('\n');
}

describeWithFixtures('.env', 'public-cases/env', () => {
  test('env-file-names: a key of several lines is one variable, and no part of it is published', async () => {
    const program =
      "require('http').createServer((q,r)=>r.end(JSON.stringify({KEY:process.env.KEY,TOKEN:process.env.TOKEN}))).listen(process.env.PORT)";
    const compose = `services:\n  web:\n    image: none\n    command: ["node", "-e", ${JSON.stringify(program)}]\n    ports: ["8080:8080"]\n    environment:\n      KEY: "\${KEY}"\n      TOKEN: "\${TOKEN}"\n`;
    writeFileSync(join(project, 'docker-compose.yaml'), compose);
    writeFileSync(
      join(project, '.env'),
      `${fixtureText('public-cases/env/multi-line-quoted.env')}export TOKEN='two words' # c\n`,
    );
    const deployed = await cli('deploy');
    expect(deployed.code, deployed.stderr).toBe(0);
    const running = await page();
    expect(running['KEY']).toMatch(/^-----BEGIN PRIVATE KEY-----\n(.+\n){2}-----END PRIVATE KEY-----$/);
    expect(running['TOKEN']).toBe('two words');
    const { machine_dir } = stateOf(project);
    const published = JSON.parse(readFileSync(join(machine_dir, 'shared/app-compose.json'), 'utf8')) as {
      allowed_envs: string[];
    };
    expect(published.allowed_envs).toEqual(['KEY', 'TOKEN']);
    expect(publicText() + deployed.stdout + deployed.stderr).not.toMatch(
      /MIIEvQ|QUJDREVG|two words|PRIVATE KEY/,
    );

    // What cannot be read as Compose reads it is refused with the line, and what runs runs on.
    const before = supervisorOf(machine_dir);
    for (const [name, message] of [
      ['json.env', /\.env:1: .*JSON/],
      ['colon.env', /\.env:1: .*TOKEN(.|\n)*TOKEN=value/],
      ['dash.env', /\.env:1: "MY-KEY"/],
      ['utf-16.env', /UTF-16/],
    ] as const) {
      writeFileSync(join(project, '.env'), fixture(`public-cases/env/${name}`));
      for (const command of ['deploy', 'measure', 'prepare']) {
        const { code, stderr } = await cli(command);
        expect(code).toBe(1);
        expect(stderr).toMatch(message);
      }
      expect(supervisorOf(machine_dir)).toEqual(before);
    }
    expect((await page())['TOKEN']).toBe('two words');

    // A value from standard input comes through whole, whatever it is.
    writeFileSync(join(project, '.env'), `KEY=1 # one\n`);
    const value = 'a "b" \'c\' $d `e` \\f\n#g\n';
    expect((await cliIn(project, ['env', 'set', 'TOKEN'], `${value}\n`)).code).toBe(0);
    const again = await cli('deploy');
    expect(again.code, again.stderr).toBe(0);
    expect(await page()).toEqual({ KEY: '1', TOKEN: value });
    expect(readFileSync(join(project, '.env'), 'utf8')).toMatch(/^KEY=1 # one\n/);
  }, 120_000);
});

describe('a compose hash that the contract does not allow', () => {
  test('check-then-swap: the running machine is not stopped for it, and comes back when the key service refuses it', async () => {
    expect((await cli('deploy')).code).toBe(0);
    const before = stateOf(project);
    const supervisor = supervisorOf(before.machine_dir);
    const { address } = await page();
    writeFileSync(
      join(project, 'docker-compose.yaml'),
      `${readFileSync(join(project, 'docker-compose.yaml'), 'utf8')}# changed\n`,
    );

    const refused = await cli('deploy', '--json');
    expect(refused.code).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({
      error: { code: 'compose_hash_not_allowed', hint: expect.stringContaining('app allow') },
    });
    expect(supervisorOf(before.machine_dir)).toEqual(supervisor);
    expect(stateOf(project)).toEqual(before);

    const denied = await cli('deploy', '--no-policy-check');
    expect(denied.code).toBe(1);
    expect(denied.stderr).toContain('Boot denied: Compose hash not allowed');
    expect(stateOf(project)).toMatchObject({ status: 'RUNNING', compose_hash: before.compose_hash });
    expect((await page())['address']).toBe(address);

    const registered = await cli('deploy', '--register');
    expect(registered.code, registered.stderr).toBe(0);
    expect(stateOf(project).compose_hash).not.toBe(before.compose_hash);
    expect((await page())['address']).toBe(address);
  }, 120_000);

  test('check-then-swap: an app without a contract, and an image that is not allowed, are named before the boot', async () => {
    const missing = await cli('deploy', '--no-register', '--json');
    expect(JSON.parse(missing.stdout)).toMatchObject({ error: { code: 'app_not_registered' } });
    const app = readFileSync(join(project, 'app.json'), 'utf8');
    const other = app.replace('dstack-sim-0.6.0', 'dstack-sim-0.5.0');
    writeFileSync(join(project, 'app.json'), other);
    for (const flags of [['--dry-run'], []]) {
      const image = await cli('deploy', '--json', ...flags);
      expect(JSON.parse(image.stdout)).toMatchObject({
        error: {
          message: expect.stringContaining('OS image is not allowed'),
          hint: expect.stringContaining('dstack-cloud kms add-image'),
        },
      });
    }
    // Nor was a contract made and paid for.
    expect(readFileSync(join(project, 'app.json'), 'utf8')).toBe(other);
    expect(readdirSync(project)).not.toContain('state.json');
  }, 60_000);

  test('open gives the URL of what runs, history what was deployed, the newest first', async () => {
    expect(await cli('open')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('dstack-cloud deploy'),
    });
    expect(await cli('history', '--json')).toMatchObject({ code: 0, stdout: '[]\n' });
    expect((await cli('--yes', 'deploy', '--register')).code).toBe(0);
    const compose = join(project, 'docker-compose.yaml');
    writeFileSync(compose, `${readFileSync(compose, 'utf8')}# second\n`);
    expect((await cli('--yes', 'deploy', '--register')).code).toBe(0);
    const { urls, compose_hash, revisions } = stateOf(project) as unknown as {
      urls: { app: string };
      compose_hash: string;
      revisions: unknown[];
    };
    expect((await cli('open')).stdout).toBe(`${urls.app}\n`);
    const history = JSON.parse((await cli('history', '--json')).stdout) as { compose_hash: string }[];
    expect(history).toEqual([...revisions].reverse());
    expect(history.length).toBe(2);
    expect(history[0]?.compose_hash).toBe(compose_hash);
    expect((await cli('history')).stdout.split('\n')[1]).toContain(compose_hash);
  }, 90_000);

  test('doctor says what a deploy needs, and what is wrong with it', async () => {
    const findings = async (): Promise<Record<string, string>> => {
      const { stdout, code } = await cli('doctor', '--json');
      const list = JSON.parse(stdout) as { name: string; state: string }[];
      expect(code).toBe(list.some(({ state }) => state === 'bad') ? 1 : 0);
      return Object.fromEntries(list.map(({ name, state }) => [name, state]));
    };
    // The app has no contract yet, so that the chain allows nothing.
    expect(await findings()).toEqual({ application: 'ok', machine: 'ok', KMS: 'ok', chain: 'bad' });
    writeFileSync(join(project, 'docker-compose.yaml'), 'services: 1\n');
    expect(await findings()).toMatchObject({ application: 'bad', machine: 'open', chain: 'bad' });
  }, 60_000);
});

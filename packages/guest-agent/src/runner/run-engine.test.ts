import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chooseEngine } from '@dstack-cloud/app';
import { readComposeFile } from '@dstack-cloud/app/compose-file';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type EngineRunOptions, runEngine } from './run-engine.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dstack-engine-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A program named docker that notes its arguments and the variable TOKEN, and fails at one subcommand. */
function fakeDocker(failing = 'nothing'): void {
  const script = `#!/bin/sh
echo "$TOKEN $*" >> "${dir}/calls"
case "$*" in
  *" logs "*) echo "line of web"; exit 0 ;;
  *" ${failing}"*) echo "no such image"; echo "$ERROR" >&2; exit 17 ;;
esac
`;
  writeFileSync(join(dir, 'docker'), script, { mode: 0o755 });
}
const calls = (): string[] => readFileSync(join(dir, 'calls'), 'utf8').trimEnd().split('\n');
const TEXT = `services:
  web:
    image: x
    env_file: .env
    ports: ["8080:80"]
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
      - {type: bind, source: /run/tappd.sock, target: /t.sock}
      - data:/data
volumes: {data: {name: shared}}`;
const options = (output: string[], changes: Partial<EngineRunOptions> = {}): EngineRunOptions => ({
  engine: { name: 'docker', compose: ['docker', 'compose'] },
  composeText: TEXT,
  file: readComposeFile(TEXT),
  env: { PATH: `${dir}:${process.env['PATH']}`, TOKEN: 's3' },
  sealedEnv: { TOKEN: "it's $3" },
  secrets: { TOKEN: "it's $3" },
  project: 'dstack-x',
  folders: {
    root: dir,
    workDir: dir,
    dataDir: join(dir, 'data'),
    runDir: join(dir, 'run'),
    sockets: { dstack: '/machine/dstack.sock', tappd: '/machine/tappd.sock' },
  },
  ports: [{ address: '127.0.0.1', host: 4711, guest: 8080 }],
  logDir: join(dir, 'logs'),
  onOutput: (bytes) => output.push(Buffer.from(bytes).toString()),
  say: (line) => output.push(line),
  ...changes,
});
const written = (name: string): string => readFileSync(join(dir, name), 'utf8');

describe('runEngine', () => {
  it('starts, copies logs, and stops with the decrypted environment for interpolation only', async () => {
    fakeDocker();
    mkdirSync(join(dir, '.host-shared'));
    const app = await runEngine(options([]));
    expect(app.services).toEqual(['web']);
    await expect.poll(() => written('logs/web.log')).toBe('line of web\n');
    await app.stop();
    const file = `-f ${dir}/docker-compose.machine.yaml`;
    expect(calls()).toEqual([
      `s3 compose -p dstack-x ${file} up --remove-orphans -d --build`,
      `s3 compose -p dstack-x ${file} logs --follow --no-color --no-log-prefix web`,
      `s3 compose -p dstack-x ${file} down --timeout 5`,
    ]);
    expect(written('docker-compose.yaml')).toBe(TEXT);
    expect(JSON.parse(written('docker-compose.machine.yaml'))).toMatchObject({
      services: {
        web: {
          env_file: join(dir, '.host-shared/.compose-env'),
          ports: ['127.0.0.1:4711:80/tcp'],
          volumes: [
            '/machine/dstack.sock:/var/run/dstack.sock',
            { type: 'bind', source: '/machine/tappd.sock', target: '/t.sock' },
            'data:/data',
          ],
        },
      },
      volumes: { data: { name: 'dstack-x_shared' } },
    });
    expect(written('.host-shared/.compose-env')).toBe('TOKEN="it\'s \\$3"\n');
    expect(statSync(join(dir, '.host-shared/.compose-env')).mode & 0o777).toBe(0o600);
  });

  it('leaves an .env alone that a script of the application has made', async () => {
    fakeDocker();
    writeFileSync(join(dir, '.env'), 'A=1\n');
    await (await runEngine(options([]))).stop();
    expect(written('docker-compose.machine.yaml')).toContain('"env_file": ".env"');
    expect(written('.env')).toBe('A=1\n');
  });

  it('runs the file as it is in a machine of its own', async () => {
    fakeDocker();
    const text = 'services: {web: {image: x, ports: ["80:80"]}}';
    const folders = { ...options([]).folders, root: '/' };
    const changes = { composeText: text, file: readComposeFile(text), folders };
    await (await runEngine(options([], changes))).stop();
    expect(calls()[0]).toContain(` -f ${dir}/docker-compose.yaml up `);
    expect(written('docker-compose.yaml')).toBe(text);
  });

  it('takes down what a failed start left', async () => {
    fakeDocker('up');
    mkdirSync(join(dir, '.host-shared'));
    const output: string[] = [];
    await expect(runEngine(options(output))).rejects.toMatchObject({ code: 'start-failed' });
    expect(output.join('')).toContain('no such image');
    expect(calls().at(-1)).toMatch(/ down --timeout 5$/);
  });

  it('says why compose failed, on the console too, without a value of the environment', async () => {
    fakeDocker('up');
    mkdirSync(join(dir, '.host-shared'));
    const output: string[] = [];
    const ERROR = 'pull access denied for team/app\ninvalid port "hunter2hunter2"\n\u001b[31mred\u0007\n';
    const { env } = options([]);
    const secrets = { PORT: 'hunter2hunter2' };
    const running = runEngine(options(output, { env: { ...env, ERROR }, secrets }));
    const withheld = '(a line is withheld: it may contain a secret of the application)';
    await expect(running).rejects.toMatchObject({
      message: `docker compose up failed with status 17: pull access denied for team/app / ${withheld} / red\\u{7}`,
    });
    expect(output.join('')).not.toContain('hunter');
    expect(output.join('')).toContain('pull access denied');
  });
});

describe('chooseEngine', () => {
  /** Commands that end well; `docker` is `docker info`. */
  const answering =
    (...commands: string[]) =>
    (command: readonly string[]) =>
      Promise.resolve(commands.includes(command.join(' ')));
  const docker = ['docker info', 'docker compose version'];
  it.each([
    [[...docker, 'podman info', 'podman compose version'], 'docker', ['docker', 'compose']],
    [['podman info', 'podman compose version'], 'podman', ['podman', 'compose']],
    [['docker info', 'docker-compose version'], 'docker', ['docker-compose']],
    [['docker info', 'podman info', 'podman-compose version'], 'podman', ['podman-compose']],
    [['docker info'], 'process', []],
    [['docker compose version'], 'process', []],
    [[], 'process', []],
  ])('of %j takes %s', async (commands, name, compose) => {
    expect(await chooseEngine('auto', answering(...commands))).toEqual({ name, compose });
  });
  it('plain processes when they are asked for', async () => {
    expect(await chooseEngine('process', answering(...docker))).toEqual({ name: 'process', compose: [] });
  });
  it.each([
    [['podman info', 'podman compose version'], /docker does not answer \(docker info\)/],
    [['docker info'], /docker answers, but neither docker compose nor docker-compose is installed/],
  ])('does not fall back from an engine that was asked for: %j', async (commands, message) => {
    const refusal = { code: 'engine-missing', message: expect.stringMatching(message) };
    await expect(chooseEngine('docker', answering(...commands))).rejects.toMatchObject(refusal);
  });
});

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: compose files interpolate with the same signs
import {
  existsSync,
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
import { setTimeout as sleep } from 'node:timers/promises';
import { readComposeFile } from '@dstack-cloud/app/compose-file';
import { utf8Text } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { BackOff } from './back-off.ts';
import { type RunningApp, runProcesses } from './run-processes.ts';

const CASES = 'public-cases/compose';

let dir = '';
let running: RunningApp | undefined;
let stopping = new AbortController();
const said: string[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dstack-runner-'));
  said.length = 0;
  stopping = new AbortController();
});
afterEach(async () => {
  await running?.stop();
  running = undefined;
  rmSync(dir, { recursive: true, force: true });
});

const run = async (composeText: string, variables = {}, extraEnv = {}, sealedEnv = {}) => {
  running = await runProcesses({
    file: readComposeFile(composeText),
    variables: { ...variables, ...sealedEnv },
    sealedEnv,
    machineEnv: { ...process.env, SECRET_OF_HOST: 'x' },
    extraEnv,
    folders: {
      root: dir,
      workDir: join(dir, 'dstack'),
      dataDir: join(dir, 'data'),
      runDir: dir,
      sockets: { dstack: '/machine/dstack.sock', tappd: '/machine/tappd.sock' },
    },
    logDir: join(dir, 'logs'),
    signal: stopping.signal,
    say: (line) => said.push(line),
  });
};
const log = (name: string) => readFileSync(join(dir, 'logs', `${name}.log`), 'utf8');
const states = () =>
  JSON.parse(readFileSync(join(dir, 'containers.json'), 'utf8')) as { name: string; state: string }[];
const alive = (pid: number) => {
  try {
    // A zombie still takes signals: ask for its state.
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
};

it('gives a service its environment, its directory and the socket, and nothing of the host', async () => {
  const text = `services:
  web:
    command: [node, -e, "console.log(JSON.stringify(process.env)); console.log(process.cwd()); console.log(require('fs').readFileSync('etc/c','utf8')); setInterval(()=>{},1e6)"]
    environment: { TOKEN: "\${TOKEN}" }
    ports: ["80:80"]
    volumes: ["/var/run/dstack.sock:/var/run/dstack.sock", "/run/tappd.sock:/x"]
    configs: [{source: c, target: /etc/c}]
  other:
    command: [sh, -c, 'echo "port=$$PORT mode=$$MODE"']
configs: {c: {content: "inline $TOKEN"}}`;
  await run(text, { TOKEN: 's3', UNUSED_SECRET: 'q' }, { PORT: '4711', MODE: 'demo' });
  await vi.waitFor(() => expect(log('web')).toContain('inline s3'), 10_000);
  const [env, cwd] = log('web').split('\n');
  expect(JSON.parse(env ?? '')).toMatchObject({
    TOKEN: 's3',
    PORT: '4711',
    MODE: 'demo',
    DSTACK_SIMULATOR_ENDPOINT: '/machine/dstack.sock',
    DSTACK_AGENT_ADDRESS: 'unix:/machine/dstack.sock',
    TAPPD_SIMULATOR_ENDPOINT: '/machine/tappd.sock',
  });
  expect(env).not.toContain('SECRET');
  expect(cwd).toBe(join(dir, 'data/web'));
  await vi.waitFor(() => expect(log('other')).toBe('port= mode=demo\n'), 10_000);
  expect(said.join('\n')).toContain('NO ISOLATION');
});

it('stops every service and what it started, also one that ignores SIGTERM', async () => {
  const text = `services:
  tree: { command: [sh, -c, "sleep 1000 & echo $$!; wait"] }
  deaf: { command: [sh, -c, "trap '' TERM; echo $$$$; while :; do sleep 0.1; done"], stop_grace_period: 300ms }`;
  await run(text);
  await vi.waitFor(() => expect(log('tree') && log('deaf')).toMatch(/\d+\n/), 10_000);
  const pids = [log('tree'), log('deaf')].map(Number);
  expect(pids.map(alive)).toEqual([true, true]);
  await running?.stop();
  await vi.waitFor(() => expect(pids.map(alive)).toEqual([false, false]), 5_000);
  expect(states().map(({ state }) => state)).toEqual(['exited', 'exited']);
});

it('restarts by policy', async () => {
  const text = `services:
  never: { command: [sh, -c, "echo run; exit 3"] }
  twice: { command: [sh, -c, "echo run; exit 3"], restart: "on-failure:1" }
  well: { command: [sh, -c, "echo run"], restart: on-failure }
  always: { command: [sh, -c, "echo run"], restart: always }`;
  await run(text);
  await sleep(800);
  const runs = (name: string) => log(name).split('\n').length - 1;
  expect([runs('never'), runs('twice'), runs('well')]).toEqual([1, 2, 1]);
  expect(runs('always')).toBeGreaterThan(1);
  expect(said.join('\n')).toContain('never ended with status 3');
});

it('leaves nothing running when one service cannot start', async () => {
  const text = `services:
  first: { command: [sh, -c, "echo $$$$; sleep 1000"] }
  second: { command: [/no/such/program], depends_on: [first] }`;
  await expect(run(text)).rejects.toMatchObject({ code: 'start-failed' });
  const pid = Number(existsSync(join(dir, 'logs/first.log')) ? log('first') : 0);
  if (pid > 0) expect(alive(pid)).toBe(false);
});

it('waits 100 ms, doubling to a minute, and anew after a long run', () => {
  const backOff = new BackOff();
  expect([0, 0, 0].map((ms) => backOff.after(ms))).toEqual([100, 200, 400]);
  for (let i = 0; i < 20; i++) backOff.after(0);
  expect(backOff.after(0)).toBe(60_000);
  expect(backOff.after(10_000)).toBe(100);
});

it('keeps what it writes inside the directory of its service', async () => {
  const text = `services:
  a: { command: [cat, x], configs: [{source: c, target: ../../x}], working_dir: /../.. }
configs: {c: {content: inside}}`;
  await run(text);
  await vi.waitFor(() => expect(log('a')).toBe('inside'), 10_000);
  expect(existsSync(join(dir, 'data/a/x'))).toBe(true);
});

it.each(['data/a/etc', 'data/a', 'data', 'secrets'])('writes nothing through a link at %s', async (link) => {
  const outside = mkdtempSync(join(tmpdir(), 'dstack-outside-'));
  try {
    mkdirSync(join(dir, link, '..'), { recursive: true });
    symlinkSync(outside, join(dir, link));
    const text = `services:
  a: { command: "true", configs: [{source: c, target: /etc/c}], secrets: [s], volumes: [ "v:/v" ] }
configs: {c: {content: x}}
secrets: {s: {content: x}}`;
    // A data folder that is a link is the operator's choice; below it none is followed.
    if (link === 'data') await run(text);
    else await expect(run(text)).rejects.toThrow(/cannot be used by the application/);
    expect(readdirSync(outside)).toEqual(link === 'data' ? expect.anything() : []);
  } finally {
    rmSync(outside, { recursive: true, force: true });
  }
});

describeWithFixtures('a file from practice', `${CASES}/order-secrets-modes-numbers.yaml`, () => {
  it('starts in order, with secrets, modes and numbers as they were written', async () => {
    const text = utf8Text(fixture(`${CASES}/order-secrets-modes-numbers.yaml`))
      .replaceAll('/data/migrated', join(dir, 'migrated'))
      .replace('sleep 4', 'sleep 0.5');
    await run(text, {}, {}, { DB_PASSWORD: 'p4ss $word' });
    await vi.waitFor(() => expect(log('app')).toContain('script ran'), 10_000);
    const [, migrated] = /migrated at (\d+)/.exec(log('migrate')) ?? [];
    const [, started] = /started (\d+)/.exec(log('app')) ?? [];
    expect(Number(started)).toBeGreaterThanOrEqual(Number(migrated));
    expect(log('app')).not.toContain('No such file');
    expect(log('app')).toContain(
      'GUILD=1147053346671102335 OWNER=0x5FF137D4b0FDCD49DcA30c7CF57E578a026d2789',
    );
    expect(log('app')).toContain('p4ss $word');
    expect(log('app')).toContain('DBPW=p4ss $word');
    expect(log('app')).toContain('-rwxr-xr-x');
    expect(said).toContain('Service app waits until migrate has completed');
    await running?.stop();
    expect(existsSync(join(dir, 'secrets'))).toBe(false);
  });
});

it('does not start what waits for a service that failed, and starts what can do without it', async () => {
  const text = (required: string) => `services:
  job: { command: [sh, -c, "sleep 0.2; exit 3"] }
  app: { command: [sh, -c, echo started], depends_on: { job: { condition: service_completed_successfully${required} } } }`;
  await expect(run(text(''))).rejects.toThrow('Service app waits for job, which ended with status 3');
  expect(existsSync(join(dir, 'logs/app.log'))).toBe(false);
  await run(text(', required: false'));
  await vi.waitFor(() => expect(log('app')).toBe('started\n'), 10_000);
});

it('lets independent services start beside one that waits, and ends the waiting when it is stopped', async () => {
  const text = `services:
  job: { command: sleep 600 }
  app: { command: "true", depends_on: { job: { condition: service_completed_successfully } } }
  web: { command: [sh, -c, "echo up; sleep 600"] }`;
  const starting = run(text);
  starting.catch(() => undefined);
  await vi.waitFor(() => expect(log('web')).toBe('up\n'), 10_000);
  stopping.abort();
  await expect(starting).rejects.toThrow('The application is stopped');
  expect(states().map(({ state }) => state)).toEqual(['exited', 'exited']);
});

it('keeps named volumes and bind mounts in the folder of the machine, shared by their users', async () => {
  const text = `services:
  writer:
    command: [sh, -c, "echo kept > /data/file; echo bound > /srv/app/file; pwd; echo $$FILE"]
    working_dir: /data/sub
    environment: { FILE: "file=/data/file,/database,/x/data" }
    volumes: ["data:/data", "./files:/srv/app", "/abs:/abs", "anonymous:/anonymous"]
  reader:
    command: [sh, -c, "cat /mnt/file /other/file"]
    depends_on: { writer: { condition: service_completed_successfully } }
    volumes: ["data:/mnt:ro", { type: bind, source: ./files, target: /other }]`;
  await run(text);
  await vi.waitFor(() => expect(log('reader')).toBe('kept\nbound\n'), 10_000);
  const data = join(dir, 'data/.volumes/data');
  expect(log('writer')).toBe(`${data}/sub\nfile=${data}/file,/database,/x/data\n`);
  expect(readFileSync(join(dir, 'dstack/files/file'), 'utf8')).toBe('bound\n');
  expect(existsSync(join(dir, 'abs'))).toBe(true);
  expect(said).toContain('Plain processes can write to volumes that are read-only for reader');
});

it.each([
  [
    'a secret whose variable is not set',
    'secrets: [s]',
    'secrets: {s: {environment: NONE}}',
    /NONE, which is not set/,
  ],
  [
    'a config whose file is not there',
    'configs: [c]',
    'configs: {c: {file: ./c.conf}}',
    /\.\/c\.conf, which cannot be read/,
  ],
  [
    'a bind mount that is not there',
    'volumes: [{type: bind, source: ./x, target: /x}]',
    '',
    /\.\/x does not exist/,
  ],
])('refuses %s', async (_, member, top, message) => {
  await expect(run(`services:\n  a: { command: "true", ${member} }\n${top}`)).rejects.toThrow(message);
});

it('takes no file from outside of the machine, however its path climbs', async () => {
  writeFileSync(join(dir, '..', 'outside-of-machine'), 'secret of the host');
  try {
    const climb = '../../../../../../../../..';
    const text = (file: string) => `services:
  a: { command: "true", secrets: [s], volumes: ["${climb}${dir}/..:/x"] }
secrets: { s: { file: ${climb}${file} } }`;
    await expect(run(text(join(dir, '../outside-of-machine')))).rejects.toThrow(
      /cannot be read in the machine/,
    );
    expect(existsSync(join(dir, tmpdir()))).toBe(true);
  } finally {
    rmSync(join(dir, '..', 'outside-of-machine'));
  }
});

it('finds the agent at its usual path, in arguments too, and has a home of its own', async () => {
  const text = `services:
  web:
    command: [sh, -c, "echo /var/run/dstack.sock $$HOME"]
    volumes: ["/var/run/dstack.sock:/var/run/dstack.sock"]`;
  await run(text);
  await vi.waitFor(() => expect(log('web')).toBe(`/machine/dstack.sock ${join(dir, 'data/web')}\n`), 10_000);
});

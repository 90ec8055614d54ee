// biome-ignore-all lint/suspicious/noTemplateCurlyInString: compose files interpolate with the same signs
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { BackOff } from './back-off.ts';
import { type RunningApp, runProcesses } from './run-processes.ts';

let dir = '';
let running: RunningApp | undefined;
const said: string[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dstack-runner-'));
  said.length = 0;
});
afterEach(async () => {
  await running?.stop();
  running = undefined;
  rmSync(dir, { recursive: true, force: true });
});

const run = async (composeText: string, variables = {}, extraEnv = {}) => {
  running = await runProcesses({
    composeText,
    variables,
    machineEnv: { ...process.env, SECRET_OF_HOST: 'x' },
    extraEnv,
    sockets: { dstack: '/machine/dstack.sock', tappd: '/machine/tappd.sock' },
    dataDir: join(dir, 'data'),
    logDir: join(dir, 'logs'),
    runDir: dir,
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

it('keeps a config inside the directory of its service', async () => {
  const text =
    'services: {a: {command: "true", configs: [{source: c, target: ../../x}]}}\nconfigs: {c: {content: x}}';
  await expect(run(text)).rejects.toMatchObject({ code: 'compose-invalid' });
});

/** A running machine is touched only after everything was checked, and an update that fails leaves it as it was. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type LocalLab, localLab, setMode, stateOf, supervisorOf } from '../harness/local-lab.ts';
import { repository, runCommand } from '../harness/run-command.ts';

let lab: LocalLab;
let project: string;
let count = 0;
beforeAll(async () => {
  lab = await localLab();
}, 120_000);
afterAll(() => lab?.cleanUp(), 60_000);
beforeEach(async () => {
  project = await lab.project(`app${count++}`);
});

const cli = (...args: string[]) => lab.cli(['-C', project, ...args]);

async function deploy() {
  const { code, stderr } = await cli('deploy');
  expect(code, stderr).toBe(0);
  const state = stateOf(project);
  return { state, machine: state.machine_dir, supervisor: supervisorOf(state.machine_dir) };
}

/** The times of writing aside, `state.json` is what it was. */
const withoutTime = (state: object): object => ({ ...state, updated_at: '' });
const given = (machine: string): string => readFileSync(join(machine, 'shared/app-compose.json'), 'utf8');
const leftovers = (machine: string): string[] =>
  readdirSync(machine).filter((name) => /^\.(previous|update)/.test(name));
const machines = (): string[] => readdirSync(lab.runPath).sort();

/** A file on the machine's data disk, and one beside it. */
const MARKS = ['guest/dstack/persistent/data', 'guest/other'];
function mark(machine: string): void {
  mkdirSync(join(machine, 'guest/dstack/persistent'), { recursive: true });
  for (const name of MARKS) writeFileSync(join(machine, name), 'precious');
}
const marks = (machine: string): boolean[] => MARKS.map((name) => existsSync(join(machine, name)));

describe('an update that is refused', () => {
  test('check-then-swap: what is wrong with the new revision is said while the old one runs on', async () => {
    const before = await deploy();
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    const files = ['app.json', 'docker-compose.yaml', '.user-config'];
    const texts = files.map((name) => readFileSync(join(project, name), 'utf8'));
    const app = texts[0] ?? '';
    const wrong: readonly (readonly [string, string, RegExp])[] = [
      ['app.json', app.replace('"port": 0', `"port": ${port}`), new RegExp(String(port))],
      [
        'app.json',
        app.replace('"port": 0', '"port": 41999').replace('"agent_port": 0', '"agent_port": 41999'),
        /41999.*twice/,
      ],
      ['app.json', app.replace('"instance_name": "', '"instance_name": "a/'), /name/],
      ['app.json', app.replace('dstack-sim-0.6.0', 'nosuch'), /nosuch/],
      ['app.json', app.replace('"key_provider": "none"', '"key_provider": "tpm"'), /tpm/],
      ['app.json', '{', /no valid JSON/],
      ['.env', 'A=1\n', /KMS is not enabled/],
      ['.user-config', 'x'.repeat(1024 * 1024 + 1), /too large/],
      ['docker-compose.yaml', 'a: [', /YAML/],
    ];
    try {
      for (const [name, text, message] of wrong) {
        writeFileSync(join(project, name), text);
        const { code, stderr } = await cli('deploy');
        expect(code, stderr).toBe(1);
        expect(stderr).toMatch(message);
        expect(supervisorOf(before.machine)).toEqual(before.supervisor);
        expect(stateOf(project)).toEqual(before.state);
        rmSync(join(project, '.env'), { force: true });
        files.forEach((file, index) => {
          writeFileSync(join(project, file), texts[index] ?? '');
        });
      }
    } finally {
      other.close();
    }
  }, 60_000);

  test('check-then-swap: ports of the machine itself are no obstacle', async () => {
    const { state } = await deploy();
    const app = JSON.parse(readFileSync(join(project, 'app.json'), 'utf8'));
    const { urls } = state as unknown as { urls: { app: string; agent: string } };
    app.local_config.port = Number(new URL(urls.app).port);
    app.local_config.agent_port = Number(new URL(urls.agent).port);
    writeFileSync(join(project, 'app.json'), JSON.stringify(app));
    const after = await deploy();
    expect(after.state).toMatchObject({ urls });
  }, 60_000);
});

describe('an update that fails', () => {
  test('check-then-swap: the machine of before runs again, and state.json says so', async () => {
    const before = await deploy();
    const compose = given(before.machine);
    mark(before.machine);
    for (const mode of ['denied', 'silent']) {
      setMode(project, mode);
      const { code, stderr } = await cli('deploy');
      expect(code).toBe(1);
      expect(stderr).toContain('is running as before');
      expect(withoutTime(stateOf(project))).toMatchObject(
        withoutTime({ ...before.state, urls: expect.anything() }),
      );
      expect(supervisorOf(before.machine)).toBeDefined();
      expect(given(before.machine)).toBe(compose);
      expect(leftovers(before.machine)).toEqual([]);
      expect(marks(before.machine)).toEqual([true, true]);
    }
  }, 60_000);

  test('check-then-swap: also after Ctrl-C', async () => {
    const before = await deploy();
    setMode(project, 'hangs');
    const interrupt = new AbortController();
    const { code } = await lab.cli(['-C', project, 'deploy'], {
      signal: interrupt.signal,
      stderr: (text) => {
        if (text.includes('requesting app keys')) interrupt.abort(new Error('Interrupted'));
      },
    });
    expect(code).toBe(130);
    expect(stateOf(project)).toMatchObject({ status: 'RUNNING', compose_hash: before.state.compose_hash });
    expect(supervisorOf(before.machine)).toBeDefined();
  }, 60_000);

  test('check-then-swap: a stopped machine stays stopped, and what never ran gives way', async () => {
    const before = await deploy();
    await cli('stop');
    setMode(project, 'denied');
    expect((await cli('deploy')).code).toBe(1);
    expect(stateOf(project)).toMatchObject({ status: 'STOPPED', compose_hash: before.state.compose_hash });
    expect((await cli('start')).code).toBe(0);

    const fresh = await lab.project(`app${count++}`);
    setMode(fresh, 'denied', 'one');
    expect((await lab.cli(['-C', fresh, 'deploy'])).code).toBe(1);
    const first = stateOf(fresh);
    setMode(fresh, 'denied', 'two');
    expect((await lab.cli(['-C', fresh, 'deploy'])).code).toBe(1);
    expect(stateOf(fresh)).toMatchObject({ status: 'FAILED', machine_dir: first.machine_dir });
    expect(stateOf(fresh).compose_hash).not.toBe(first.compose_hash);
    expect(given(first.machine_dir)).toContain('two');
  }, 60_000);
});

describe('a new machine', () => {
  test('check-then-swap: --delete keeps the data disk, and gives everything back when it fails', async () => {
    const { machine, state } = await deploy();
    mark(machine);
    setMode(project, 'denied');
    expect((await cli('deploy', '--delete')).code).toBe(1);
    expect(marks(machine)).toEqual([true, true]);
    expect(stateOf(project)).toMatchObject({ status: 'RUNNING', compose_hash: state.compose_hash });
    setMode(project, 'ok', 'two');
    expect((await cli('deploy', '--delete')).code).toBe(0);
    expect(stateOf(project).machine_dir).toBe(machine);
    expect(marks(machine)).toEqual([true, false]);
    expect(leftovers(machine)).toEqual([]);
  }, 60_000);

  test('check-then-swap: --delete-data asks, and loses nothing when it fails', async () => {
    const { machine, supervisor, state } = await deploy();
    mark(machine);
    const others = machines().filter((name) => !machine.endsWith(name));
    const refused = await cli('deploy', '--delete-data');
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain('--yes');
    expect(supervisorOf(machine)).toEqual(supervisor);
    setMode(project, 'denied');
    expect((await cli('deploy', '--delete-data', '--yes')).code).toBe(1);
    expect(marks(machine)).toEqual([true, true]);
    expect(stateOf(project)).toMatchObject({
      status: 'RUNNING',
      machine_dir: machine,
      compose_hash: state.compose_hash,
    });
    expect(machines()).toHaveLength(others.length + 1);
    setMode(project, 'ok', 'two');
    expect((await cli('deploy', '--delete-data', '--yes')).code).toBe(0);
    const after = stateOf(project).machine_dir;
    expect(after).not.toBe(machine);
    expect(marks(after)).toEqual([false, false]);
    expect(machines()).toEqual([...others, after.split('/').at(-1)].sort());
  }, 60_000);
});

describe('whose machine it is', () => {
  test('check-then-swap: a copy of the folder does not touch the machine of the original', async () => {
    const { machine, supervisor, state } = await deploy();
    const copy = `${project}-copy`;
    cpSync(project, copy, { recursive: true });
    setMode(copy, 'ok', 'copy');
    for (const command of ['deploy', 'stop', 'start', 'remove']) {
      const { code, stderr } = await lab.cli(['-C', copy, command, '--yes']);
      expect(code, command).toBe(1);
      expect(stderr).toContain(`belongs to the project in ${project}`);
      expect(stderr).toContain('state.json');
    }
    expect(supervisorOf(machine)).toEqual(supervisor);
    expect(stateOf(project)).toEqual(state);
    rmSync(join(copy, 'state.json'));
    expect((await lab.cli(['-C', copy, 'deploy'])).code).toBe(0);
    expect(stateOf(copy).machine_dir).not.toBe(machine);
    expect(supervisorOf(machine)).toEqual(supervisor);
  }, 60_000);

  test('check-then-swap: a project that was moved keeps its machine', async () => {
    const { machine } = await deploy();
    renameSync(project, `${project}-moved`);
    project = `${project}-moved`;
    expect((await cli('stop')).code).toBe(0);
    expect(supervisorOf(machine)).toBeUndefined();
    expect((await deploy()).machine).toBe(machine);
  }, 60_000);
});

describe('two at once', () => {
  const program = (...args: string[]) =>
    runCommand([join(repository, 'dist/bin/dstack-cloud'), '-C', project, ...args], {
      env: { ...lab.env },
      timeoutMs: 60_000,
    });

  test('check-then-swap: two deploys, starts or prepares follow one another', async () => {
    let refused = 0;
    for (const command of ['deploy', 'start', 'prepare', 'deploy', 'stop']) {
      const both = await Promise.all([program(command), program(command)]);
      expect(both.map(({ code }) => code)).toContain(0);
      // Who waits too long, on a machine that is very busy, is refused and has done nothing.
      for (const { code, stderr } of both) {
        if (code !== 0) expect(stderr).toContain('is being worked on');
        if (code !== 0 && command === 'deploy') refused += 1;
      }
    }
    const { machine_dir: machine, revisions } = stateOf(project);
    expect(revisions).toHaveLength(4 - refused);
    expect(supervisorOf(machine)).toBeUndefined();
    expect(machines()).toContain(machine.split('/').at(-1));
  }, 120_000);
});

describe('files of the project', () => {
  test('damaged-state-stays-visible: a running machine is seen and stopped without state.json, app.json', async () => {
    const { machine } = await deploy();
    const text = readFileSync(join(project, 'state.json'), 'utf8');
    for (const name of ['state.json', 'app.json']) {
      const kept = readFileSync(join(project, name), 'utf8');
      expect((await cli('start')).code).toBe(0);
      writeFileSync(join(project, name), '{');
      const status = await cli('status', '--json');
      expect(status.code).toBe(1);
      expect(JSON.parse(status.stdout)).toMatchObject({
        status: 'RUNNING',
        problem: expect.stringContaining(name),
      });
      expect(JSON.parse((await cli('stop', '--json')).stdout)).toMatchObject({ stopped: true });
      expect(supervisorOf(machine)).toBeUndefined();
      writeFileSync(join(project, name), kept);
    }
    // Moved away it is made again, for the same machine.
    rmSync(join(project, 'state.json'));
    expect((await deploy()).machine).toBe(machine);
    expect(stateOf(project)).toMatchObject({
      compose_hash: (JSON.parse(text) as { compose_hash: string }).compose_hash,
    });
  }, 60_000);
});

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createCvm } from '@dstack-cloud/vmm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Sandbox } from '../testing.ts';

let box: Sandbox;
let machine: string;
beforeEach(async () => {
  box = new Sandbox();
  await box.run('new', 'app', '--platform', 'local', '--kp', 'none');
  machine = box.path('vm/machine-1');
  const local = { run_path: box.path('vm'), seed_file: box.path('seed') };
  writeFileSync(box.path('config.json'), JSON.stringify({ platform: 'local', local }));
  box.env = { DSTACK_CLOUD_CONFIG: box.path('config.json') };
  await createCvm({
    dir: machine,
    name: 'dstack-app',
    appId: '11'.repeat(20),
    image: 'dstack-sim-0.6.0',
    shared: { 'app-compose.json': Buffer.from('{}'), '.sys-config.json': Buffer.from('{}') },
    seedFile: box.path('seed'),
    project: box.path('app'),
  });
  const state = {
    schema: 1,
    platform: 'local',
    instance_name: 'dstack-app',
    status: 'STOPPED',
    machine_dir: machine,
  };
  writeFileSync(box.path('app/state.json'), JSON.stringify(state));
});
afterEach(() => box.remove());

const cli = (...args: string[]) => box.run('-C', 'app', ...args);

/** Ways to make a file unusable. */
const damages: readonly (readonly [string, (path: string) => void])[] = [
  ['cut off', (path) => writeFileSync(path, readFileSync(path, 'utf8').slice(0, -9))],
  ['too large', (path) => writeFileSync(path, `${readFileSync(path, 'utf8')}${' '.repeat(5 << 20)}`)],
  ['empty', (path) => writeFileSync(path, '')],
  ['no UTF-8', (path) => writeFileSync(path, Uint8Array.of(0x7b, 0xff, 0xfe))],
  ['of another form', (path) => writeFileSync(path, '["status"]')],
  ['a folder', replaced((path) => mkdirSync(path))],
  ['a link to itself', replaced((path) => symlinkSync(path, path))],
];

function replaced(make: (path: string) => void): (path: string) => void {
  return (path) => {
    rmSync(path);
    make(path);
  };
}

async function expectTended(name: RegExp): Promise<void> {
  const status = await cli('status');
  expect(status.code).toBe(1);
  expect(status.stdout).toContain('dstack-app');
  expect(status.stderr).toMatch(name);
  expect((await cli('list')).stdout).toContain('dstack-app');
  const stop = await cli('stop');
  expect(stop.code, stop.stderr).toBe(0);
  expect(stop.stdout).toContain('dstack-app was not running');
  expect(await cli('remove')).toMatchObject({ code: 4, stderr: expect.stringContaining('--yes') });
  expect(existsSync(machine)).toBe(true);
  const remove = await cli('remove', '--yes');
  expect(remove.code, remove.stderr).toBe(0);
  expect(existsSync(machine)).toBe(false);
}

describe('a damaged state.json', () => {
  it.each(damages)('(%s) leaves the machine in sight, and stoppable', async (name, damage) => {
    damage(box.path('app/state.json'));
    const deploy = await cli('deploy');
    expect(deploy.code).toBe(1);
    expect(deploy.stderr).toMatch(/state\.json .*(damaged|cannot be read)/);
    expect(deploy.stderr).toContain('mv ');
    await expectTended(/state\.json/);
    expect(existsSync(box.path('app/state.json.bad')) || name === 'a link to itself').toBe(true);
    expect(JSON.parse(readFileSync(box.path('app/state.json'), 'utf8'))).toMatchObject({ status: 'REMOVED' });
  });

  it('is repaired by moving it away: the machine says whose it is', async () => {
    rmSync(box.path('app/state.json'));
    const status = await cli('status', '--json');
    expect(status.code).toBe(0);
    expect(JSON.parse(status.stdout)).toMatchObject({ instance: 'dstack-app', problem: null });
    await cli('stop');
    expect(JSON.parse(readFileSync(box.path('app/state.json'), 'utf8'))).toMatchObject({
      machine_dir: machine,
    });
  });
});

describe('a damaged app.json', () => {
  it.each(damages)('(%s) leaves the machine in sight, and stoppable', async (_name, damage) => {
    damage(box.path('app/app.json'));
    const deploy = await cli('deploy');
    expect(deploy.code).toBe(1);
    expect(deploy.stderr).toMatch(/app\.json/);
    expect(deploy.stderr).toContain('Next:');
    await expectTended(/app\.json/);
  });
});

describe('a damaged configuration', () => {
  it.each(damages)(
    '(%s) says how to repair it; a machine in the usual place is stoppable',
    async (_name, damage) => {
      damage(box.path('config.json'));
      for (const command of ['deploy', 'status', 'list', 'stop']) {
        const { code, stderr } = await cli(command);
        expect(code, command).toBe(1);
        expect(stderr).toContain('config.json');
        expect(stderr).toMatch(/config-edit|--config|UTF-8|Correct|Put the settings/);
      }
      expect(existsSync(machine)).toBe(true);
      // The usual place is what counts then.
      rmSync(box.path('config.json'), { recursive: true });
      const usual = box.path('.local/share/dstack-cloud/vm');
      mkdirSync(box.path('.local/share/dstack-cloud'), { recursive: true });
      symlinkSync(box.path('vm'), usual);
      writeFileSync(box.path('config.json'), '{');
      expect((await cli('stop')).stdout).toContain('dstack-app was not running');
      expect((await cli('list')).stdout).toContain('dstack-app');
    },
  );
});

describe('somebody else’s state.json', () => {
  it('names no folder that is not ours, and no second machine', async () => {
    const victim = box.path('victim');
    mkdirSync(victim);
    writeFileSync(`${victim}/file`, 'x');
    await box.run('new', 'evil', '--platform', 'local', '--kp', 'none');
    for (const names of [
      { machine_dir: victim },
      { machine_dir: box.path('vm/nosuch'), other_machine_dir: machine },
      { machine_dir: box.path('vm/nosuch'), other_machine_dir: victim },
    ]) {
      writeFileSync(
        box.path('evil/state.json'),
        JSON.stringify({ status: 'STOPPED', instance_name: 'x', ...names }),
      );
      for (const command of ['stop', 'start', 'remove']) await box.run('-C', 'evil', command, '--yes');
      expect(existsSync(`${victim}/file`)).toBe(true);
      expect(existsSync(machine)).toBe(true);
    }
  });

  it('an approval for what a TPM sealed lies in shared/ while the project has it, and no longer', async () => {
    const text = '{"version":1}\n';
    writeFileSync(box.path('app/.seal-approval.json'), text);
    expect((await cli('prepare')).code).toBe(0);
    expect(readFileSync(box.path('app/shared/.seal-approval.json'), 'utf8')).toBe(text);
    rmSync(box.path('app/.seal-approval.json'));
    expect((await cli('prepare')).code).toBe(0);
    expect(existsSync(box.path('app/shared/.seal-approval.json'))).toBe(false);
  });

  it('and no shared/ that is a link is written through', async () => {
    const victim = box.path('victim');
    mkdirSync(victim);
    writeFileSync(`${victim}/.encrypted-env`, 'x');
    rmSync(box.path('app/shared'), { recursive: true });
    symlinkSync(victim, box.path('app/shared'));
    const { code, stderr } = await cli('prepare');
    expect(code).toBe(1);
    expect(stderr).toContain('is no folder, so nothing was written');
    expect(readFileSync(`${victim}/.encrypted-env`, 'utf8')).toBe('x');
  });
});

describe.runIf(process.geteuid?.() === 0 && process.platform === 'linux')('on a full disk', () => {
  afterEach(() => {
    execFileSync('umount', ['-l', box.path('full')]);
  });

  it('a machine is removed, and a warning says that state.json is not up to date', async () => {
    mkdirSync(box.path('full'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', box.path('full')]);
    await box.run('new', 'full/app', '--platform', 'local', '--kp', 'none');
    rmSync(box.path('app'), { recursive: true });
    const state = { status: 'STOPPED', instance_name: 'dstack-app', machine_dir: machine };
    writeFileSync(box.path('full/app/state.json'), JSON.stringify(state));
    expect(() => {
      for (;;) writeFileSync(box.path('full/ballast'), Buffer.alloc(4096), { flag: 'a' });
    }).toThrow(/ENOSPC/);
    const { code, stdout, stderr } = await box.run('-C', 'full/app', 'remove', '--yes');
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('Removed dstack-app');
    expect(stderr).toContain('state.json does not say so yet');
    expect(existsSync(machine)).toBe(false);
    expect(JSON.parse((await box.run('-C', 'full/app', 'status', '--json')).stdout)).toMatchObject({
      status: 'NOT_FOUND',
    });
  });
});

it('a machine that no project made is nobody’s to stop or remove, whatever a state.json says', async () => {
  const foreign = box.path('vm/kms');
  await createCvm({
    dir: foreign,
    name: 'kms',
    appId: '22'.repeat(20),
    image: 'dstack-sim-0.6.0',
    shared: { 'app-compose.json': Buffer.from('{}'), '.sys-config.json': Buffer.from('{}') },
    seedFile: box.path('seed'),
  });
  const state = JSON.parse(readFileSync(box.path('app/state.json'), 'utf8')) as object;
  writeFileSync(
    box.path('app/state.json'),
    JSON.stringify({ ...state, machine_dir: foreign, status: 'RUNNING' }),
  );
  for (const command of [
    ['stop'],
    ['start'],
    ['remove', '--force', '--yes'],
    ['deploy'],
    ['deploy', '--delete'],
  ]) {
    const { code, stderr } = await cli(...command);
    expect([command.join(' '), code === 0, stderr.includes('was made by no project')]).toEqual([
      command.join(' '),
      false,
      true,
    ]);
  }
  expect(existsSync(`${foreign}/vm-manifest.json`)).toBe(true);
});

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { processIdentity } from '@dstack-cloud/files';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createCvm } from '../change/create-cvm.ts';
import { INITIAL_STATE, readState, writeState } from '../state/state.ts';
import { StateKeeper } from '../state/state-keeper.ts';
import { cvmStatus, listCvms } from '../state/status.ts';
import { type MachineLab, machineLab, until } from '../test/machine-lab.ts';
import { removeCvm, startCvm, stopCvm } from './lifecycle.ts';

let lab: MachineLab;
beforeEach(() => {
  lab = machineLab();
});
afterEach(() => lab.cleanUp());

const isLive = (pid: number) => processIdentity(pid) !== undefined;
const listed = async () => (await listCvms(lab.runPath)).map(({ name, state }) => [name, state.status]);

/** Ways to make a file unreadable; each replaces `path`. */
const damages: readonly (readonly [string, (path: string) => void])[] = [
  ['cut off', (path) => writeFileSync(path, '{"status":"run')],
  ['too large', (path) => writeFileSync(path, `${readFileSync(path, 'utf8')}${' '.repeat(300_000)}`)],
  ['empty', (path) => writeFileSync(path, '')],
  ['no UTF-8', (path) => writeFileSync(path, Uint8Array.of(0xff, 0xfe))],
  ['of another form', (path) => writeFileSync(path, '{"status":"asleep"}')],
  ['a folder', replaced((path) => mkdirSync(path))],
  ['a FIFO', replaced((path) => execFileSync('mkfifo', [path]))],
  ['a link to itself', replaced((path) => symlinkSync(path, path))],
];

function replaced(make: (path: string) => void): (path: string) => void {
  return (path) => {
    rmSync(path, { force: true });
    make(path);
  };
}

describe('a machine whose state cannot be read', () => {
  it.each(damages)('(%s) is listed as damaged, and removed', async (_name, damage) => {
    await createCvm(lab.options);
    damage(join(lab.options.dir, 'vm-state.json'));
    expect(await listed()).toEqual([['one', 'damaged']]);
    expect((await cvmStatus(lab.options.dir)).state.error).toContain('vm-state.json');
    await expect(startCvm(lab.options.dir)).rejects.toMatchObject({ code: 'damaged' });
    await removeCvm(lab.options.dir);
    expect(existsSync(lab.options.dir)).toBe(false);
  });

  it.each(damages)('(manifest %s) is listed as damaged, and removed', async (_name, damage) => {
    await createCvm(lab.options);
    damage(join(lab.options.dir, 'vm-manifest.json'));
    expect(await listed()).toEqual([['one', 'damaged']]);
    await expect(startCvm(lab.options.dir)).rejects.toMatchObject({ code: 'bad_manifest' });
    expect(await stopCvm(lab.options.dir)).toBe(false);
    await removeCvm(lab.options.dir);
    expect(existsSync(lab.options.dir)).toBe(false);
  });

  it('is stopped while it runs, with a state and a manifest that say nothing', async () => {
    await createCvm(lab.options);
    await startCvm(lab.options.dir);
    const pid = await lab.pid('child');
    for (const name of ['vm-state.json', 'vm-manifest.json'])
      writeFileSync(join(lab.options.dir, name), 'damaged');
    expect(await listed()).toEqual([['one', 'damaged']]);
    await expect(removeCvm(lab.options.dir)).rejects.toMatchObject({ code: 'running' });
    expect(await stopCvm(lab.options.dir)).toBe(true);
    expect(isLive(pid)).toBe(false);
    await removeCvm(lab.options.dir);
    expect(await listed()).toEqual([]);
  });

  it('starts again after a stop', async () => {
    await createCvm(lab.options);
    writeFileSync(join(lab.options.dir, 'vm-state.json'), '');
    await stopCvm(lab.options.dir);
    expect((await startCvm(lab.options.dir)).state.status).toBe('running');
  });
});

describe('what a guest says', () => {
  const flood = ['\u0001', '"', '\u{1f600}', '\ud800', 'x'].map((unit) => unit.repeat(4096 / unit.length));

  it.each(flood)('never makes the state unreadable (%#)', async (payload) => {
    await createCvm(lab.options);
    const keeper = new StateKeeper(lab.options.dir, { ...INITIAL_STATE, status: 'preparing' });
    for (let i = 0; i < 30; i += 1)
      for (const event of ['boot.progress', 'boot.error', 'instance.info', 'app.says'])
        for (const take of [keeper.progressed, keeper.notified]) take.call(keeper, { event, payload });
    keeper.update({ error: payload.repeat(50) });
    await keeper.close();
    const state = await readState(lab.options.dir);
    expect(state.events.length).toBeGreaterThan(0);
    expect(state.events.at(-1)).toMatchObject({ event: 'app.says' });
    expect(await listed()).toEqual([['one', 'failed']]);
    // What is no instance info is not what the next boot finds.
    expect(existsSync(join(lab.options.dir, 'shared/.instance_info'))).toBe(false);
  });

  it('leaves a running machine visible, and stoppable', async () => {
    await createCvm(lab.withMode('noisy'));
    expect((await startCvm(lab.options.dir)).state.status).toBe('running');
    expect(await listed()).toEqual([['one', 'running']]);
    expect((await cvmStatus(lab.options.dir)).state.status).toBe('running');
    expect(await stopCvm(lab.options.dir)).toBe(true);
  });
});

describe('what runs without a supervisor', () => {
  it('a daemon that left its session ends with the machine', async () => {
    await createCvm(lab.withMode('daemon'));
    await startCvm(lab.options.dir);
    const daemon = await lab.pid('daemon');
    expect(isLive(daemon)).toBe(true);
    await stopCvm(lab.options.dir);
    expect(isLive(daemon)).toBe(false);
  });

  it('a daemon of a killed supervisor ends too, by its guard or by the next stop', async () => {
    await createCvm(lab.withMode('daemon'));
    const { state } = await startCvm(lab.options.dir);
    const pids = [await lab.pid('daemon'), await lab.pid('child')];
    process.kill(state.supervisor?.pid as number, 'SIGKILL');
    await until(() => !isLive(state.supervisor?.pid as number));
    await stopCvm(lab.options.dir);
    expect(pids.map(isLive)).toEqual([false, false]);
    expect(existsSync(state.run_dir as string)).toBe(false);
    expect(existsSync(join(lab.options.dir, 'guest/dstack/.host-shared/.decrypted-env'))).toBe(false);
  });

  it('a machine whose folder is removed stops by itself', async () => {
    await createCvm(lab.options);
    const { state } = await startCvm(lab.options.dir);
    const pid = await lab.pid('child');
    renameSync(lab.options.dir, join(lab.root, 'moved'));
    rmSync(join(lab.root, 'moved'), { recursive: true });
    await until(() => !isLive(pid) && !isLive(state.supervisor?.pid as number));
    expect(existsSync(state.run_dir as string)).toBe(false);
    expect(existsSync(lab.options.dir)).toBe(false);
  });

  it('a machine whose run folder is removed fails with the reason', async () => {
    await createCvm(lab.options);
    const { state } = await startCvm(lab.options.dir);
    rmSync(state.run_dir as string, { recursive: true });
    await until(async () => (await cvmStatus(lab.options.dir)).state.status === 'failed');
    expect((await readState(lab.options.dir)).error).toContain('was removed while the machine ran');
  });

  it('programs of a machine whose folder is gone are listed, and ended', async () => {
    await createCvm(lab.withMode('daemon'));
    const { state } = await startCvm(lab.options.dir);
    const daemon = await lab.pid('daemon');
    // The guard would end them: it goes first.
    process.kill(guardOf(state.supervisor?.pid as number), 'SIGKILL');
    process.kill(state.supervisor?.pid as number, 'SIGKILL');
    await until(() => !isLive(state.supervisor?.pid as number));
    rmSync(lab.options.dir, { recursive: true });
    expect(await listed()).toEqual([['one', 'damaged']]);
    expect(await stopCvm(lab.options.dir)).toBe(true);
    expect(isLive(daemon)).toBe(false);
    expect(await listed()).toEqual([]);
  });
});

describe('a stop', () => {
  it('leaves no keys, environment or user configuration behind', async () => {
    await createCvm(lab.options);
    await startCvm(lab.options.dir);
    const copies = join(lab.options.dir, 'guest/dstack/.host-shared');
    expect(existsSync(join(copies, '.decrypted-env.json'))).toBe(true);
    await stopCvm(lab.options.dir);
    const left = ['.appkeys.json', '.decrypted-env', '.decrypted-env.json', '.user-config', '.encrypted-env'];
    expect(left.filter((name) => existsSync(join(copies, name)))).toEqual([]);
  });
});

describe.runIf(process.geteuid?.() === 0 && process.platform === 'linux')('on a full disk', () => {
  afterEach(async () => {
    await stopCvm(lab.options.dir).catch(() => undefined);
    execFileSync('umount', ['-l', lab.runPath]);
  });

  it('a running machine is stopped and removed', async () => {
    mkdirSync(lab.runPath, { mode: 0o700 });
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k,mode=0700', 'tmpfs', lab.runPath]);
    await createCvm(lab.options);
    await startCvm(lab.options.dir);
    const pid = await lab.pid('child');
    fill(join(lab.runPath, 'ballast'));
    await expect(writeState(lab.options.dir, INITIAL_STATE)).rejects.toThrow(/no space/i);
    expect(await stopCvm(lab.options.dir)).toBe(true);
    expect(isLive(pid)).toBe(false);
    expect((await listed())[0]?.[1]).toMatch(/^(?:failed|stopped)$/);
    await expect(startCvm(lab.options.dir)).rejects.toThrow(/no space/i);
    await removeCvm(lab.options.dir);
    expect(existsSync(lab.options.dir)).toBe(false);
  });
});

function fill(path: string): void {
  for (const size of [65_536, 4096, 1]) {
    try {
      for (;;) writeFileSync(path, Buffer.alloc(size), { flag: 'a' });
    } catch {
      // Full, to this size.
    }
  }
}

/** The shell in a session of its own that the supervisor started first. */
function guardOf(supervisor: number): number {
  const children = readFileSync(`/proc/${supervisor}/task/${supervisor}/children`, 'utf8')
    .trim()
    .split(' ')
    .map(Number);
  const guard = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('/bin/sh'));
  if (guard === undefined) throw new Error('There is no guard');
  return guard;
}

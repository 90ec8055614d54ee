import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { holderTag } from '@dstack-cloud/files';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { machineFolder } from '../folder/machine-folder.ts';
import { makeRunFolder, removeRunFolder, removeRunFolders } from '../folder/run-folder.ts';
import { LogFile } from '../logs/log-file.ts';
import { cvmLogs } from '../logs/logs.ts';
import { removeCvm, startCvm, stopCvm } from '../run/lifecycle.ts';
import { INITIAL_STATE, readState, writeState } from '../state/state.ts';
import { cvmStatus, listCvms } from '../state/status.ts';
import { type MachineLab, machineLab } from '../test/machine-lab.ts';
import { createCvm } from './create-cvm.ts';

let lab: MachineLab;
let victim: string;
beforeEach(() => {
  lab = machineLab();
  victim = mkdtempSync(join(tmpdir(), 'victim-'));
  writeFileSync(join(victim, 'precious'), 'data');
});
afterEach(async () => {
  await lab.cleanUp();
  rmSync(victim, { recursive: true, force: true });
});

const isWhole = () => readFileSync(join(victim, 'precious'), 'utf8') === 'data';
const notOurs = expect.objectContaining({ code: 'not_ours' });

describe('the folder of a machine', () => {
  it('is one directly below the configured place', () => {
    mkdirSync(lab.runPath);
    expect(machineFolder(lab.runPath, join(lab.runPath, 'one'))).toBe(join(lab.runPath, 'one'));
    symlinkSync(lab.runPath, join(lab.root, 'alias'));
    expect(machineFolder(join(lab.root, 'alias'), join(lab.runPath, 'one'))).toBe(join(lab.runPath, 'one'));
  });

  it.each([
    ['elsewhere', () => victim],
    ['the place itself', () => lab.runPath],
    ['above it', () => join(lab.runPath, '..')],
    ['out of it again', () => join(lab.runPath, 'one/../..', 'victim')],
    ['deeper', () => join(lab.runPath, 'one/guest')],
    ['hidden', () => join(lab.runPath, '.one')],
    ['none', () => ''],
  ])('is not %s', (_name, path) => {
    mkdirSync(lab.runPath);
    expect(() => machineFolder(lab.runPath, path())).toThrow(notOurs);
  });

  it('is no link: nothing is read, written or removed through one', async () => {
    await createCvm(lab.options);
    renameSync(lab.options.dir, join(victim, 'one'));
    symlinkSync(join(victim, 'one'), lab.options.dir);
    const before = readdirSync(join(victim, 'one'));
    for (const act of [startCvm, stopCvm, removeCvm, cvmStatus])
      await expect(act(lab.options.dir)).rejects.toMatchObject({ code: 'not_ours' });
    expect((await listCvms(lab.runPath)).map(({ state }) => state.status)).toEqual(['damaged']);
    expect(readdirSync(join(victim, 'one'))).toEqual(before);
  });

  it('is not one that others may change', async () => {
    await createCvm(lab.options);
    chmodSync(lab.options.dir, 0o777);
    await expect(removeCvm(lab.options.dir)).rejects.toMatchObject({
      code: 'not_ours',
      message: expect.stringContaining('chmod 755'),
    });
    expect(existsSync(lab.options.dir)).toBe(true);
  });

  it('is not one without a file of a machine', async () => {
    await expect(removeCvm(victim)).rejects.toMatchObject({ code: 'not_found' });
    expect(isWhole()).toBe(true);
  });
});

describe('the run folder that a state names', () => {
  /** Folders that look like a run folder of the machine and are none; each gives the path to name. */
  const forged: readonly (readonly [string, (id: string) => string])[] = [
    ['any folder', () => victim],
    ['a folder of the right name', () => renamed('dstack-abcdef')],
    ['one that names another machine', () => marked(renamed('dstack-abcdef'), randomUUID())],
    ['one that names nothing', () => marked(renamed('dstack-abcdef'), '')],
    ['one that is open to others', (id) => opened(marked(renamed('dstack-abcdef'), id))],
    ['one whose mark is a link', (id) => linked(renamed('dstack-abcdef'), id, symlinkSync)],
    ['one whose mark is a hard link', (id) => linked(renamed('dstack-abcdef'), id, linkSync)],
    ['a link to one', (id) => behindLink(marked(renamed('dstack-abcdef'), id))],
    ['a relative path', (id) => `../../../../../../../..${marked(renamed('dstack-abcdef'), id)}`],
    ['one inside of another', (id) => `${marked(renamed('dstack-abcdef'), id)}/.`],
  ];
  const renamed = (name: string): string => {
    // Out of the way of whoever looks for run folders by itself.
    const path = join(victim, 'x', name);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    writeFileSync(join(path, 'content'), 'x');
    return path;
  };
  const marked = (path: string, id: string): string => {
    writeFileSync(join(path, 'machine'), `${id}\n${join(victim, 'somewhere')}\n${holderTag()}\n`);
    return path;
  };
  const opened = (path: string): string => {
    chmodSync(path, 0o755);
    return path;
  };
  const linked = (path: string, id: string, link: (target: string, path: string) => void): string => {
    writeFileSync(join(path, 'other'), `${id}\n${lab.options.dir}\n${holderTag()}\n`);
    link(join(path, 'other'), join(path, 'machine'));
    return path;
  };
  const behindLink = (path: string): string => {
    const link = join(victim, 'dstack-zzzzzz');
    symlinkSync(path, link);
    return link;
  };

  it.each(forged)('is kept when it is %s', async (_name, forge) => {
    const { id } = await createCvm(lab.options);
    const path = forge(id);
    await writeState(lab.options.dir, { ...INITIAL_STATE, status: 'running', run_dir: path });
    await stopCvm(lab.options.dir);
    expect(isWhole()).toBe(true);
    if (path !== victim) expect(readdirSync(path).length).toBeGreaterThan(0);
    expect((await readState(lab.options.dir)).run_dir).toBeNull();
    await removeCvm(lab.options.dir);
    expect(isWhole()).toBe(true);
  });

  it('is removed when it is the own one, also when the state does not name it, or the machine is gone', () => {
    const one = { id: randomUUID(), dir: lab.root };
    const two = { id: randomUUID(), dir: victim };
    const named = makeRunFolder(one);
    expect(removeRunFolder(named, two)).toBe(false);
    expect(removeRunFolder(named, { id: undefined, dir: victim })).toBe(false);
    expect(removeRunFolder(named, one)).toBe(true);
    const forgotten = makeRunFolder(one);
    const other = makeRunFolder(two);
    const living = makeRunFolder({ id: randomUUID(), dir: join(lab.root, 'none') });
    const ofNobody = makeRunFolder({ id: randomUUID(), dir: join(lab.root, 'none') });
    const mark = readFileSync(join(ofNobody, 'machine'), 'utf8');
    // As a supervisor that has ended would have left it.
    writeFileSync(join(ofNobody, 'machine'), mark.replace(`\n${process.pid}-`, '\n4194304-'));
    removeRunFolders({ id: undefined, dir: lab.root }, null);
    expect([forgotten, ofNobody].map((path) => existsSync(path))).toEqual([false, false]);
    expect([living, other].map((path) => existsSync(path))).toEqual([true, true]);
    for (const path of [living, other]) rmSync(path, { recursive: true });
  });
});

describe('a log', () => {
  it.each([
    ['a link', (path: string) => symlinkSync(join(victim, 'precious'), path)],
    ['a hard link', (path: string) => linkSync(join(victim, 'precious'), path)],
    ['a FIFO', (path: string) => execFileSync('mkfifo', [path])],
    ['a device', (path: string) => symlinkSync('/dev/zero', path)],
  ])('that is %s is neither read nor written', async (_name, make) => {
    await createCvm(lab.options);
    mkdirSync(join(lab.options.dir, 'logs/containers'), { recursive: true });
    make(join(lab.options.dir, 'logs/serial.log'));
    make(join(lab.options.dir, 'logs/containers/web.log'));
    await expect(cvmLogs(lab.options.dir, { lines: 10 })).rejects.toMatchObject({ code: 'not_ours' });
    await expect(cvmLogs(lab.options.dir, { lines: 10, container: 'web' })).rejects.toMatchObject({
      code: 'not_ours',
    });
    new LogFile(join(lab.options.dir, 'logs/serial.log')).append('line');
    expect(isWhole()).toBe(true);
  });
});

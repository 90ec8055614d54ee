import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, processIdentity } from '@dstack-cloud/files';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createCvm } from '../change/create-cvm.ts';
import type { CreateOptions } from '../change/create-options.ts';
import { updateCvm } from '../change/update-cvm.ts';
import { cvmLogs } from '../logs/logs.ts';
import { readManifest } from '../manifest/manifest.ts';
import { readState } from '../state/state.ts';
import { cvmStatus, listCvms } from '../state/status.ts';
import { type MachineLab, machineLab, until } from '../test/machine-lab.ts';
import { removeCvm, startCvm, stopCvm } from './lifecycle.ts';

let lab: MachineLab;
let options: CreateOptions;
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const withCompose = (mode: string): CreateOptions => lab.withMode(mode);

beforeEach(() => {
  lab = machineLab();
  options = lab.options;
});
afterEach(() => lab.cleanUp());

describe('life of a machine', () => {
  it('starts, reports, stops and is removed without a trace', async () => {
    await createCvm(options);
    const progress: string[] = [];
    const started = await startCvm(options.dir, { onProgress: (text) => progress.push(text) });
    expect(started.state.status).toBe('running');
    expect(started.state.instance_id).toBe('22'.repeat(20));
    expect(started.state.urls['app']).toBe(`http://127.0.0.1:${started.state.ports['80']}`);
    const pid = await lab.pid('child');
    expect(processIdentity(pid)).toBeDefined();
    expect((await listCvms(lab.runPath)).map((one) => one.name)).toEqual(['one']);
    expect((await cvmLogs(options.dir, { lines: 100 })).join('\n')).toContain(
      `port ${started.state.ports['80']}`,
    );
    expect(await cvmLogs(options.dir, { lines: 1, container: 'web' })).toEqual(['hello']);
    await expect(cvmLogs(options.dir, { lines: 1, container: '../../vm-state' })).rejects.toMatchObject({
      code: 'not_found',
    });
    await expect(startCvm(options.dir)).rejects.toMatchObject({ code: 'already_running' });
    await expect(removeCvm(options.dir)).rejects.toMatchObject({ code: 'running' });

    const runDir = started.state.run_dir as string;
    expect(await stopCvm(options.dir)).toBe(true);
    expect(processIdentity(pid)).toBeUndefined();
    expect(existsSync(runDir)).toBe(false);
    expect((await cvmStatus(options.dir)).state.status).toBe('stopped');
    expect(await stopCvm(options.dir)).toBe(false);

    const again = await startCvm(options.dir);
    expect(again.state.ports['80']).toBe(started.state.ports['80']);
    await stopCvm(options.dir);
    await removeCvm(options.dir);
    expect(existsSync(options.dir)).toBe(false);
  });

  it('leaves nothing running when its supervisor is killed', async () => {
    await createCvm(options);
    const { state } = await startCvm(options.dir);
    const pid = await lab.pid('child');
    process.kill(state.supervisor?.pid as number, 'SIGKILL');
    await until(() => processIdentity(pid) === undefined);
    expect((await cvmStatus(options.dir)).state).toMatchObject({
      status: 'failed',
      error: 'The supervisor died',
    });
    await removeCvm(options.dir);
    expect(existsSync(state.run_dir as string)).toBe(false);
  });

  it('stops when its owner is gone', async () => {
    const owner = spawn('sleep', ['600']);
    const identity = processIdentity(owner.pid as number);
    await createCvm({ ...options, owner: identity ?? null });
    const { state } = await startCvm(options.dir);
    owner.kill('SIGKILL');
    const supervisor = state.supervisor;
    await until(() => supervisor !== null && !isAlive(supervisor));
    expect((await readState(options.dir)).status).toBe('stopped');
  });
});

describe('a start that is given up', () => {
  it.each([0, 60, 150, 300, 450])('after %i ms leaves nothing behind', async (delay) => {
    await createCvm(options);
    const stop = new AbortController();
    const started = startCvm(options.dir, { signal: stop.signal }).then(
      () => 'running',
      () => 'given up',
    );
    await sleep(delay);
    stop.abort();
    // Machines start in some 400 ms here: the last one may have made it.
    if ((await started) === 'running') await stopCvm(options.dir);
    const { status, supervisor, run_dir } = await readState(options.dir);
    expect({ status, supervisor, run_dir }).toEqual({ status: 'stopped', supervisor: null, run_dir: null });
    await startCvm(options.dir);
    await stopCvm(options.dir);
  });
});

describe('a boot that fails', () => {
  it('reports what the guest notified', async () => {
    await createCvm(withCompose('denied'));
    await expect(startCvm(options.dir)).rejects.toMatchObject({
      code: 'boot_failed',
      message: 'Boot denied: Compose hash not allowed',
    });
    expect(await readState(options.dir)).toMatchObject({ status: 'failed', supervisor: null, urls: {} });
  });

  it('reports the last lines when the guest said nothing', async () => {
    await createCvm(withCompose('silent'));
    await expect(startCvm(options.dir)).rejects.toThrow(/prepare failed:\nout of luck/);
  });

  it('fails the machine when a program ends later', async () => {
    await createCvm(withCompose('dies'));
    await startCvm(options.dir);
    await until(async () => (await readState(options.dir)).status !== 'running');
    expect(await readState(options.dir)).toMatchObject({ status: 'failed' });
  });
});

describe('bad input', () => {
  it('refuses a port in use, and writes nothing', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    await expect(createCvm({ ...options, ports: [{ host: port, guest: 80 }] })).rejects.toMatchObject({
      code: 'port_in_use',
      found: 'in use',
    });
    expect(existsSync(options.dir)).toBe(false);
    server.close();
  });

  it.each([
    ['a file that is no host-shared file', { shared: { '../x': utf8('') } as never }, 'bad_option'],
    ['no app-compose', { shared: { '.sys-config.json': utf8('{}') } }, 'bad_option'],
    ['an image name that climbs', { image: '../..' }, 'bad_manifest'],
    ['an app id of the wrong length', { appId: '33' }, 'bad_manifest'],
  ])('refuses %s', async (_name, change, code) => {
    await expect(createCvm({ ...options, ...(change as object) })).rejects.toMatchObject({ code });
    expect(existsSync(options.dir)).toBe(false);
  });

  it('refuses a second machine in the same folder', async () => {
    await createCvm(options);
    await expect(createCvm(options)).rejects.toMatchObject({ code: 'already_exists' });
  });

  it('keeps id and hardware on update', async () => {
    const before = await createCvm(options);
    const after = await updateCvm({ ...withCompose('other'), name: 'renamed' });
    expect(after).toMatchObject({ id: before.id, tee: before.tee, name: 'renamed' });
    expect(await readManifest(options.dir)).toEqual(after);
  });
});

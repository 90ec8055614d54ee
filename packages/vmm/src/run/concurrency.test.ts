import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { withLock } from '@dstack-cloud/files';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkCvm, createCvm } from '../change/create-cvm.ts';
import { updateCvm } from '../change/update-cvm.ts';
import { readManifest } from '../manifest/manifest.ts';
import { readState } from '../state/state.ts';
import { type MachineLab, machineLab } from '../test/machine-lab.ts';
import { removeCvm, startCvm, stopCvm } from './lifecycle.ts';
import { supervise } from './supervise.ts';

let lab: MachineLab;
beforeEach(() => {
  lab = machineLab();
});
afterEach(() => lab.cleanUp());

const code = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'done',
    (error: { code?: unknown }) => error.code,
  );

describe('two commands at once', () => {
  it('of two starts one starts the machine, the other is refused', async () => {
    await createCvm(lab.options);
    const outcomes = await Promise.all([code(startCvm(lab.options.dir)), code(startCvm(lab.options.dir))]);
    expect(outcomes.sort()).toEqual(['already_running', 'done']);
    expect((await readState(lab.options.dir)).status).toBe('running');
  });

  it('of two creations one makes the machine', async () => {
    const outcomes = await Promise.all([code(createCvm(lab.options)), code(createCvm(lab.options))]);
    expect(outcomes.sort()).toEqual(['already_exists', 'done']);
    expect((await readManifest(lab.options.dir)).name).toBe('one');
  });

  it('a stop ends a start that is under way, which says so', async () => {
    await createCvm(lab.options);
    const started = startCvm(lab.options.dir).then(
      () => 'running',
      (error: Error) => error.message,
    );
    while ((await readState(lab.options.dir)).supervisor === null) await sleep(5);
    expect(await stopCvm(lab.options.dir)).toBe(true);
    expect(await started).toMatch(/it was stopped/);
    const { status, supervisor, run_dir } = await readState(lab.options.dir);
    expect({ status, supervisor, run_dir }).toEqual({ status: 'stopped', supervisor: null, run_dir: null });
  });

  it('two stops, and a removal during a stop, do no harm', async () => {
    await createCvm(lab.options);
    await startCvm(lab.options.dir);
    const outcomes = await Promise.all([stopCvm(lab.options.dir), stopCvm(lab.options.dir)]);
    expect(outcomes).toContain(true);
    await Promise.all([code(stopCvm(lab.options.dir)), code(removeCvm(lab.options.dir))]);
    await code(removeCvm(lab.options.dir));
    expect(existsSync(lab.options.dir)).toBe(false);
  });

  it('a second supervisor is refused', async () => {
    await createCvm(lab.options);
    await startCvm(lab.options.dir);
    await expect(supervise(lab.options.dir, AbortSignal.timeout(10_000))).rejects.toMatchObject({
      code: 'locked',
    });
    expect((await readState(lab.options.dir)).status).toBe('running');
  });

  it('who waits in vain is told which process works on the machine', async () => {
    await createCvm(lab.options);
    const lock = { waitMs: 0, what: 'The machine' };
    await withLock(lab.options.dir, 'machine', lock, async () => {
      const late = startCvm(lab.options.dir, { signal: AbortSignal.timeout(100) });
      await expect(late).rejects.toThrow(/abort/i);
    });
    expect((await startCvm(lab.options.dir)).state.status).toBe('running');
  });
});

describe('an update', () => {
  it('is refused while the machine runs, and changes nothing then', async () => {
    await createCvm(lab.options);
    await startCvm(lab.options.dir);
    await expect(updateCvm(lab.withMode('dies'))).rejects.toMatchObject({ code: 'running' });
    expect(readFileSync(join(lab.options.dir, 'shared/app-compose.json'), 'utf8')).toBe('ok');
  });

  it('is checked without touching a machine that runs, whose own ports count as free', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    await createCvm(lab.options);
    const { state } = await startCvm(lab.options.dir);
    const own = state.ports['80'] as number;
    const listener = createServer().listen(own, '127.0.0.1');
    await once(listener, 'listening');
    const before = readdirSync(lab.options.dir, { recursive: true });
    await checkCvm({ ...lab.options, ports: [{ host: own, guest: 80 }] });
    await expect(checkCvm({ ...lab.options, ports: [{ host: port, guest: 80 }] })).rejects.toMatchObject({
      code: 'port_in_use',
    });
    await expect(checkCvm({ ...lab.options, image: '../..' })).rejects.toMatchObject({
      code: 'bad_manifest',
    });
    await expect(checkCvm({ ...lab.options, shared: {} })).rejects.toMatchObject({ code: 'bad_option' });
    await expect(checkCvm({ ...lab.options, rootCaTdx: join(lab.root, 'none') })).rejects.toMatchObject({
      code: 'bad_option',
    });
    await expect(checkCvm({ ...lab.options, seedFile: lab.root })).rejects.toMatchObject({
      code: 'bad_option',
    });
    const large = { ...lab.options.shared, '.user-config': new Uint8Array(2 << 20) };
    await expect(checkCvm({ ...lab.options, shared: large })).rejects.toMatchObject({ code: 'bad_option' });
    expect(readdirSync(lab.options.dir, { recursive: true })).toEqual(before);
    expect((await readState(lab.options.dir)).status).toBe('running');
    for (const one of [server, listener]) one.close();
  });

  it('that is killed at any moment leaves all of the old or all of the new', async () => {
    await createCvm(lab.options);
    const loop = fileURLToPath(new URL('../test/update-loop.ts', import.meta.url));
    for (let round = 0; round < 5; round += 1) {
      const child = spawn(process.execPath, [loop, JSON.stringify({ ...lab.options, shared: undefined })], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [first] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
      expect(String(first)).toBe('ready\n');
      await sleep(Math.random() * 150);
      child.kill('SIGKILL');
      await once(child, 'exit');
      // Any command that would use the files first finishes what was decided.
      await code(updateCvm({ ...lab.options, ports: [{ host: 1, guest: 80 }], shared: {} }));
      const { name } = await readManifest(lab.options.dir);
      const texts = readdirSync(join(lab.options.dir, 'shared'))
        .filter((file) => !file.endsWith('.tmp'))
        .map((file) => readFileSync(join(lab.options.dir, 'shared', file), 'utf8'));
      expect(new Set(texts)).toEqual(new Set([name]));
      expect(existsSync(join(lab.options.dir, 'shared/.user-config'))).toBe(name === 'A');
    }
    await updateCvm(lab.options);
    const left = readdirSync(lab.options.dir, { recursive: true, encoding: 'utf8' });
    expect(left.filter((path) => /\.(?:tmp|lock|update)/.test(path))).toEqual([]);
  }, 120_000);
});

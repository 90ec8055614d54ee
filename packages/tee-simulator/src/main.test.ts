import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { decodePem } from '@dstack-cloud/encoding';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createNitro } from './nitro/nitro-platform.ts';
import { createPlatform } from './platform.ts';

const COMMAND = [
  '--import',
  'tsx',
  '-C',
  '@dstack/source',
  fileURLToPath(new URL('./main.ts', import.meta.url)),
];
const SEED = new Uint8Array(32).fill(4);

let directory: string;
let seedFile: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sim-main-'));
  seedFile = join(directory, 'seed');
  writeFileSync(seedFile, SEED);
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...COMMAND, ...args], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  return { status, stdout, stderr };
}

async function service(...args: string[]) {
  const child = spawn(process.execPath, [...COMMAND, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
  return { child, ready: JSON.parse(line) as Record<string, unknown> };
}

const tdx = (...more: string[]) => [
  'tdx',
  ...['--seed-file', seedFile, '--socket', join(directory, 's'), '--state', join(directory, 'state.json')],
  ...more,
];

describe('dstack-tee-simulator', () => {
  test('explains itself', () => {
    expect(run('--help')).toMatchObject({ status: 0, stderr: '' });
    expect(run('tdx', '--help').stdout).toContain('configfs-tsm');
    expect(run()).toMatchObject({ status: 2 });
    expect(run('constructor')).toMatchObject({ status: 2, stdout: '' });
  });

  test.each([
    [['tdx'], 2, '--state is missing'],
    [['collateral', '--port', 'x'], 2, '--seed-file is missing'],
    [['collateral', '--seed', 'x'], 2, "Unknown option '--seed'"],
    [['root', '--seed-file', '/nonexistent/seed'], 1, 'Cannot read the seed file'],
    [['image', '--memory', '5'], 2, 'Memory must be'],
    [['image', '--cpus', 'two'], 2, '--cpus wants a whole number'],
  ])('%j is refused', (args, status, message) => {
    const result = run(...args);
    expect(result).toMatchObject({ status, stdout: '' });
    expect(result.stderr).toContain(message);
    expect(result.stderr).not.toContain('    at ');
  });

  test('prints the root of a seed, raw or hex', () => {
    const { rootDer } = createPlatform(SEED);
    expect(decodePem(run('root', '--seed-file', seedFile).stdout, 'CERTIFICATE')).toEqual(rootDer);
    writeFileSync(seedFile, `${Buffer.from(SEED).toString('hex')}\n`);
    expect(decodePem(run('root', '--seed-file', seedFile).stdout, 'CERTIFICATE')).toEqual(rootDer);
    expect(run('root', '--seed-file', seedFile, '--kind', 'nitro').stdout).toBe(createNitro(SEED).rootPem);
    writeFileSync(seedFile, 'short');
    expect(run('root', '--seed-file', seedFile).status).toBe(1);
  });

  test('serves a boot, ends with SIGTERM, and counts the next one', async () => {
    const { child, ready } = await service(...tdx('--machine', 'm'));
    expect(ready).toMatchObject({ ready: true, simulated: true, boot: 1, machine: 'm' });
    expect(ready['rtmr3']).toBe('00'.repeat(48));
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(existsSync(join(directory, 's'))).toBe(false);
    const next = await service(...tdx('--machine', 'm'));
    expect(next.ready).toMatchObject({ boot: 2 });
    expect(JSON.parse(readFileSync(join(directory, 'state.json'), 'utf8'))).toMatchObject({
      simulated: true,
      boot: 2,
    });
  });

  test('refuses the state of another machine, or what is no state', async () => {
    const { child } = await service(...tdx('--machine', 'one'));
    child.kill('SIGTERM');
    await once(child, 'exit');
    expect(run(...tdx('--machine', 'two')).stderr).toContain('is the state of machine "one"');
    writeFileSync(join(directory, 'state.json'), '{}');
    expect(run(...tdx()).stderr).toContain('is no state of a simulated machine');
  });

  test('ends when its parent does, if it was asked to', async () => {
    const { child, ready } = await service('collateral', '--seed-file', seedFile, '--exit-with-stdin');
    expect(ready['url']).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    child.stdin!.end();
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  test('names a port in use', async () => {
    const { ready } = await service('collateral', '--seed-file', seedFile);
    const second = run('collateral', '--seed-file', seedFile, '--port', String(ready['port']));
    expect(second).toMatchObject({ status: 1, stdout: '' });
    expect(second.stderr).toContain('another program uses it');
  });
});

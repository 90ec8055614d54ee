import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { holderTag } from './holder.ts';
import { withLock } from './lock.ts';

let folder: string;
const children: ChildProcess[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lock-'));
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

const options = { waitMs: 0, what: 'The machine web' };
const fixture = fileURLToPath(new URL('lock.fixture.ts', import.meta.url));

function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), fixture, folder, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  return child;
}

async function holder(): Promise<ChildProcess> {
  const child = start();
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

describe('a lock', () => {
  it('is refused while another process holds it, naming that process, and free when it is released', async () => {
    const other = await holder();
    await expect(withLock(folder, 'test', options, async () => 1)).rejects.toMatchObject({
      code: 'locked',
      message: expect.stringContaining(`The machine web is being worked on by process ${other.pid}`),
    });
    const waiting = withLock(folder, 'test', { ...options, waitMs: 20_000 }, async () => 2);
    other.stdin?.end();
    expect(await waiting).toBe(2);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('of a killed process is free at once', async () => {
    const other = await holder();
    other.kill('SIGKILL');
    await once(other, 'exit');
    expect(readdirSync(folder)).toHaveLength(1);
    expect(await withLock(folder, 'test', options, async () => 3)).toBe(3);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('of another name is another lock', async () => {
    const inner = () => withLock(folder, 'b', options, async () => 4);
    expect(await withLock(folder, 'a', options, inner)).toBe(4);
  });

  it('is released when the body throws, and waits no longer than its signal', async () => {
    const failing = withLock(folder, 'test', options, () => Promise.reject(new Error('no')));
    await expect(failing).rejects.toThrow('no');
    await withLock(folder, 'test', options, async () => {
      const late = { ...options, waitMs: 60_000, signal: AbortSignal.timeout(50) };
      await expect(withLock(folder, 'test', late, async () => 5)).rejects.toThrow(/abort/i);
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  it('lets one at a time in, of several processes and several calls in each', async () => {
    const counter = join(folder, 'counter');
    writeFileSync(counter, '0');
    const runs = Array.from({ length: 3 }, () => once(start(counter), 'exit'));
    let own = 0;
    const increment = () =>
      withLock(folder, 'test', { waitMs: 60_000, what: 'The counter' }, async () => {
        const before = Number(readFileSync(counter, 'utf8'));
        await new Promise((resolve) => setImmediate(resolve));
        writeFileSync(counter, String(before + 1));
        own += 1;
      });
    await Promise.all(Array.from({ length: 10 }, increment));
    for (const [code] of await Promise.all(runs)) expect(code).toBe(0);
    expect(own).toBe(10);
    expect(readFileSync(counter, 'utf8')).toBe('40');
  });

  it('counts a ticket of another container as held while it is fresh, and no longer', async () => {
    const [pid, start_time, , boot] = holderTag().split('-');
    const path = join(folder, `.test.${pid}-${start_time}-1-${boot}-${'ab'.repeat(8)}.lock`);
    writeFileSync(path, '');
    await expect(withLock(folder, 'test', options, async () => 6)).rejects.toMatchObject({ code: 'locked' });
    utimesSync(path, 1, 1);
    expect(await withLock(folder, 'test', options, async () => 6)).toBe(6);
  });

  it('is not taken in a folder behind a link, nor in none', async () => {
    symlinkSync(folder, `${folder}-link`);
    try {
      const call = withLock(`${folder}-link`, 'test', options, async () => 7);
      await expect(call).rejects.toMatchObject({ code: 'not-ours' });
    } finally {
      rmSync(`${folder}-link`);
    }
    const missing = withLock(join(folder, 'none'), 'test', options, async () => 7);
    await expect(missing).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

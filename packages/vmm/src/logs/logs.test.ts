import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LOG_MAX_BYTES, LogFile } from './log-file.ts';
import { cvmLogs, followCvmLogs } from './logs.ts';

let dir: string;
let path: string;
let lines: string[];
let stop: AbortController;
let following: Promise<void>;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vmm-logs-'));
  path = join(dir, 'logs/serial.log');
  mkdirSync(join(dir, 'logs'));
  lines = [];
  stop = new AbortController();
});
afterEach(async () => {
  stop.abort();
  await following;
  rmSync(dir, { recursive: true, force: true });
});

function follow(onLine: (line: string) => void = (line) => void lines.push(line)): void {
  following = followCvmLogs(dir, { lines: 10 }, onLine, stop.signal);
}
const seen = (line: string) => expect.poll(() => lines.includes(line), { timeout: 10_000 }).toBe(true);

describe('a log that is followed', () => {
  it('loses no line when it is moved aside, however soon that comes after', async () => {
    const log = new LogFile(path);
    log.append('first');
    follow();
    await seen('first');
    const all = ['first'];
    // Between two looks: more than one file holds, so the first of these lines are in a file that was moved aside.
    for (let count = 0; count < 90; count += 1) {
      const line = `${count} ${'x'.repeat(50_000)}`;
      all.push(line);
      log.append(line);
    }
    log.append('last');
    await seen('last');
    expect(lines).toEqual([...all, 'last']);
  });

  it('starts when the log appears, and again when it was emptied', async () => {
    follow();
    writeFileSync(path, 'one\ntwo\n', { mode: 0o600 });
    await seen('two');
    truncateSync(path);
    await expect.poll(() => cvmLogs(dir, { lines: 1 })).toEqual([]);
    writeFileSync(path, '3\n', { mode: 0o600 });
    await seen('3');
    expect(lines).toEqual(['one', 'two', '3']);
  });

  it('of 10 GB is shown by its end, in bounded time and memory', async () => {
    writeFileSync(path, 'small\n', { mode: 0o600 });
    follow();
    await seen('small');
    truncateSync(path, 10 * 2 ** 30);
    writeFileSync(path, '\nlast\n', { flag: 'a' });
    await seen('last');
    const characters = lines.reduce((sum, line) => sum + line.length, 0);
    expect(characters).toBeLessThan(2 * LOG_MAX_BYTES);
    expect(lines).toContainEqual(expect.stringMatching(/^\[host\] \d{11} bytes are left out$/));
    expect((await cvmLogs(dir, { lines: 1 })).at(-1)).toBe('last');
  });

  it('says nothing more to a reader that has gone', async () => {
    follow((line) => {
      lines.push(line);
      stop.abort();
    });
    writeFileSync(path, 'line\n'.repeat(100_000), { mode: 0o600 });
    await following;
    expect(lines.length).toBeLessThanOrEqual(10);
  });
});

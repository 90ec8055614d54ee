import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LOG_BACKUPS, LOG_MAX_BYTES, LogFile, lineSplitter } from './log-file.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'log-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('LogFile', () => {
  it('keeps a bounded number of bounded files', () => {
    const log = new LogFile(join(directory, 'a/x.log'));
    const line = 'x'.repeat(1024 * 1024);
    for (let i = 0; i < 300; i += 1) log.append(line);
    const files = readdirSync(join(directory, 'a'));
    expect(files.length).toBe(LOG_BACKUPS + 1);
    for (const file of files)
      expect(statSync(join(directory, 'a', file)).size).toBeLessThanOrEqual(LOG_MAX_BYTES);
    expect(statSync(join(directory, 'a/x.log')).mode & 0o777).toBe(0o600);
  });

  it('goes on where it stopped', () => {
    const path = join(directory, 'x.log');
    new LogFile(path).append('one');
    new LogFile(path).append('two');
    expect(readFileSync(path, 'utf8')).toBe('one\ntwo\n');
  });

  it('shows what would forge a line or command a terminal', () => {
    const path = join(directory, 'x.log');
    new LogFile(path).append('[host] boot.progress: \u001b[2J\u001b[32mdone\u001b[0m\n[host] forged\u202e');
    expect(readFileSync(path, 'utf8')).toBe(
      '[host] boot.progress: \\u{1b}[2Jdone\\n[host] forged\\u{202e}\n',
    );
  });
});

describe('lineSplitter', () => {
  it('joins chunks, cuts lines, and keeps characters whole', () => {
    const lines: string[] = [];
    const splitter = lineSplitter((line) => lines.push(line));
    const bytes = new TextEncoder().encode('α\nbé');
    for (const byte of bytes) splitter.write(Uint8Array.of(byte));
    splitter.end();
    expect(lines).toEqual(['α', 'bé']);
  });

  it('does not collect a line without end', () => {
    let longest = 0;
    const splitter = lineSplitter((line) => {
      longest = Math.max(longest, line.length);
    });
    const chunk = new TextEncoder().encode('y'.repeat(10_000));
    for (let i = 0; i < 100; i += 1) splitter.write(chunk);
    expect(longest).toBeGreaterThan(0);
    expect(longest).toBeLessThan(100_000);
  });
});

describe('a folder that cannot be written', () => {
  it('does not stop the machine', () => {
    const log = new LogFile(join(directory, 'gone/x.log'));
    rmSync(join(directory, 'gone'), { recursive: true });
    log.append('lost');
    expect(existsSync(join(directory, 'gone/x.log'))).toBe(false);
  });
});

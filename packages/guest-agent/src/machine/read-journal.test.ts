import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { LogQuery } from './containers.ts';
import { readJournal } from './read-journal.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dstack-journal-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const ALL: LogQuery = { since: 0, until: 0, follow: false, timestamps: false, tail: '5' };

/** A program in the place of journalctl. */
function program(script: string): string {
  const path = join(dir, 'journalctl');
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

async function read(path: string, query: LogQuery, signal = new AbortController().signal): Promise<string> {
  let text = '';
  for await (const { bytes } of readJournal(query, signal, path)) text += Buffer.from(bytes).toString();
  return text;
}

it('asks for what is wanted', async () => {
  const echo = program('echo "$@"');
  const fixed = '--no-pager --quiet --utc --output=short-iso';
  expect(await read(echo, ALL)).toBe(`${fixed} --lines=5\n`);
  expect(await read(echo, { ...ALL, since: 7, until: 9, follow: true, tail: 'all' })).toBe(
    `${fixed} --lines=all --since=@7 --until=@9 --follow\n`,
  );
});

it('tells why there is none', async () => {
  await expect(read(program('echo "No journal files were found" >&2; exit 1'), ALL)).rejects.toThrow(
    'No journal: No journal files were found',
  );
  await expect(read(join(dir, 'none'), ALL)).rejects.toThrow('ENOENT');
});

it('ends a follower whose reader is gone', async () => {
  const ended = new AbortController();
  const path = program('echo one; exec sleep 600');
  const lines: string[] = [];
  for await (const { bytes } of readJournal({ ...ALL, follow: true }, ended.signal, path)) {
    lines.push(Buffer.from(bytes).toString());
    ended.abort();
  }
  expect(lines).toEqual(['one\n']);
});

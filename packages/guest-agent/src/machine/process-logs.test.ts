import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { applicationContainers, dockerSocketPath } from './application-containers.ts';
import type { LogQuery } from './containers.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dstack-logs-'));
  writeFileSync(
    join(dir, 'containers.json'),
    JSON.stringify([{ name: 'web', state: 'running', status: 'Up', created: 7 }]),
  );
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const query: LogQuery = { since: 0, until: 0, follow: false, timestamps: false, tail: 'all' };
const containers = () => applicationContainers(dir, dir, join(dir, 'no.sock'));
const read = async (change: Partial<LogQuery>, signal = AbortSignal.timeout(5_000)): Promise<string[]> => {
  const lines: string[] = [];
  for await (const { bytes } of containers().logs('web', { ...query, ...change }, signal)) {
    lines.push(Buffer.from(bytes).toString());
  }
  return lines;
};

it.each([
  ['all', ['a\n', 'b\n', 'c']],
  ['2', ['b\n', 'c']],
  ['0', []],
  ['9', ['a\n', 'b\n', 'c']],
])('tail %s', async (tail, expected) => {
  writeFileSync(join(dir, 'web.log'), 'a\nb\nc');
  expect(await read({ tail })).toEqual(expected);
});

it('follows until it is told to stop', async () => {
  writeFileSync(join(dir, 'web.log'), 'a\n');
  const stop = new AbortController();
  const following = read({ follow: true }, stop.signal);
  setTimeout(() => appendFileSync(join(dir, 'web.log'), 'later\n'), 50);
  setTimeout(() => stop.abort(), 800);
  expect(await following).toEqual(['a\n', 'later\n']);
});

it('lists the processes that stand for containers, and says when there is no log', async () => {
  expect(await containers().list()).toEqual([
    { id: 'web', names: ['/web'], image: '', imageId: '', state: 'running', status: 'Up', created: 7 },
  ]);
  await expect(read({})).rejects.toThrow('No such container: web');
});

it('a damaged list is no containers, no list is the engine', async () => {
  writeFileSync(join(dir, 'containers.json'), '{');
  expect(await containers().list()).toEqual([]);
  rmSync(join(dir, 'containers.json'));
  await expect(containers().list()).rejects.toThrow(/Socket not found/);
});

it('DOCKER_HOST names the engine only as a Unix socket', () => {
  expect(dockerSocketPath({ DOCKER_HOST: 'unix:///x.sock' })).toBe('/x.sock');
  expect(dockerSocketPath({ DOCKER_HOST: 'tcp://1.2.3.4:2375' })).toBe('/var/run/docker.sock');
  expect(dockerSocketPath({})).toBe('/var/run/docker.sock');
});

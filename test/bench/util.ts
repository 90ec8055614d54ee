/**
 * `dstack-util get-keys` from its start to its first byte on the network: as a single executable and as a bundle, beside a bare Node
 * that connects and writes.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { makeSingleExecutable } from '@dstack-cloud/scripts/single-executable';
import { createNitro } from '@dstack-cloud/tee-simulator';
import { repository } from '../harness/run-command.ts';
import { median, type Result } from './result.ts';

const ROUNDS = 15;
const LIMIT_MS = 30_000;
const MB = 1e6;

export async function run(): Promise<Result[]> {
  await build();
  const folder = mkdtempSync(join(tmpdir(), 'dstack-bench-'));
  try {
    const single = join(folder, 'dstack-util');
    await makeSingleExecutable({ repository, output: single });
    const root = join(folder, 'root.pem');
    writeFileSync(root, createNitro(new Uint8Array(32)).rootPem);
    const getKeys = (port: number) => ['get-keys', '-k', `https://127.0.0.1:${port}`, '--root-ca', root];
    const ways: Readonly<Record<string, (port: number) => string[]>> = {
      bare: (port) => [process.execPath, '-e', `require('net').connect(${port}, '127.0.0.1').end('x')`],
      single: (port) => [single, ...getKeys(port)],
      bundle: (port) => [process.execPath, join(repository, 'dist/enclave/dstack-util.js'), ...getKeys(port)],
    };
    const times: Record<string, number[]> = { bare: [], single: [], bundle: [] };
    // One of each first, so that all are in the page cache.
    for (let round = -1; round < ROUNDS; round++)
      for (const [name, way] of Object.entries(ways)) {
        const time = await firstByte(way, folder);
        if (round >= 0) times[name]!.push(time);
      }
    const peer = { name: 'node -e', value: median(times['bare']!) };
    const start = (name: string, way: string): Result => ({
      ...{ suite: 'util', name, value: median(times[way]!), unit: 'ms', n: ROUNDS, peer },
    });
    return [
      { ...start('get-keys-start-ms', 'single'), goal: { atMost: 150 } },
      start('get-keys-bundle-start-ms', 'bundle'),
      { suite: 'util', name: 'single-executable-mb', value: statSync(single).size / MB, unit: 'MB', n: 1 },
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Milliseconds from the start of a program to its first byte. */
async function firstByte(way: (port: number) => string[], folder: string): Promise<number> {
  let arrived: () => void = () => undefined;
  const first = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const server = createServer((stream) => {
    stream.on('error', () => stream.destroy());
    stream.once('data', () => {
      arrived();
      stream.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const [program = '', ...args] = way((server.address() as AddressInfo).port);
  const start = performance.now();
  const child = spawn(program, args, {
    // A security module that is found, and not asked before the first byte.
    env: { DSTACK_NSM: `unix:${join(folder, 'nsm.sock')}`, TMPDIR: folder },
    stdio: 'ignore',
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  await Promise.race([first, ended]);
  const time = performance.now() - start;
  await ended;
  clearTimeout(timer);
  await new Promise((resolve) => server.close(resolve));
  return time;
}

/**
 * Building an enclave image of a 200 MB root, beside SHA-384 over the same bytes on one thread: PCR 0 and PCR 2 are two such
 * hashes of the root. Memory is that of a process of its own that builds and measures a root of 1 GiB.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildEif, openBootFiles } from '@dstack-cloud/eif';
import { build } from '@dstack-cloud/scripts/build';
import { repository } from '../harness/run-command.ts';
import { median, type Result } from './result.ts';

const ROUNDS = 5;
const MB = 1e6;
const FILE_BYTES = 2 * MB;
const FILES = 100;
const LARGE_FILES = 512;

export async function run(): Promise<Result[]> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-bench-'));
  try {
    writeBlobs(join(folder, 'blobs'));
    writeRoot(join(folder, 'root'), FILES);
    const [hashed, built]: [number[], number[]] = [[], []];
    // One of each first, so that both find the files in the page cache.
    for (let round = -1; round < ROUNDS; round++) {
      const [one, other] = [hashRoot(join(folder, 'root')), await buildRoot(folder)];
      if (round < 0) continue;
      hashed.push(one);
      built.push(other);
    }
    const size = FILES * FILE_BYTES;
    const rate = (times: readonly number[]) => size / MB / (median(times) / 1000);
    const rss = await largestMemory(folder);
    return [
      { suite: 'eif', name: 'sha384-mb-per-s', value: rate(hashed), unit: 'MB/s', n: ROUNDS },
      {
        suite: 'eif',
        name: 'build-mb-per-s',
        value: rate(built),
        unit: 'MB/s',
        n: ROUNDS,
        peer: { name: 'eif/sha384-mb-per-s', value: rate(hashed) },
        goal: { ratio: 0.5 },
      },
      { suite: 'eif', name: 'build-1gb-rss-mb', value: rss, unit: 'MB', n: 1, goal: { atMost: 200 } },
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function writeBlobs(folder: string): void {
  mkdirSync(folder);
  for (const name of ['bzImage', 'init', 'nsm.ko']) writeFileSync(join(folder, name), randomBytes(MB));
  writeFileSync(join(folder, 'cmdline'), 'reboot=k panic=30');
}

function writeRoot(folder: string, files: number): void {
  mkdirSync(folder);
  for (let i = 0; i < files; i++) writeFileSync(join(folder, `file-${i}`), randomBytes(FILE_BYTES));
}

/** Milliseconds of reading and hashing every file. */
function hashRoot(folder: string): number {
  const start = performance.now();
  const hash = createHash('sha384');
  const buffer = Buffer.alloc(1 << 20);
  for (let i = 0; i < FILES; i++) {
    const file = openSync(join(folder, `file-${i}`), 'r');
    for (let read = readSync(file, buffer); read > 0; read = readSync(file, buffer))
      hash.update(buffer.subarray(0, read));
    closeSync(file);
  }
  hash.digest();
  return performance.now() - start;
}

async function buildRoot(folder: string): Promise<number> {
  const start = performance.now();
  const boot = await openBootFiles({ folder: join(folder, 'blobs') });
  await buildEif({
    root: { kind: 'folder', path: join(folder, 'root') },
    boot,
    command: ['/app'],
    now: new Date(),
    buildTime: new Date(0),
    tool: { name: 'bench', version: '0' },
    output: join(folder, 'app.eif'),
    warn: () => undefined,
  });
  await boot.close();
  return performance.now() - start;
}

/** Most memory of the built command while it builds a large root and measures the result, MB. */
async function largestMemory(folder: string): Promise<number> {
  await build();
  writeRoot(join(folder, 'large'), LARGE_FILES);
  const command = join(repository, 'dist/bin/dstack-cloud.js');
  const output = join(folder, 'large.eif');
  const report = join(folder, 'report.cjs');
  const figure = join(folder, 'rss');
  writeFileSync(
    report,
    `process.on('exit', () => require('node:fs').writeFileSync(${JSON.stringify(figure)} + process.pid, String(process.resourceUsage().maxRSS)))`,
  );
  const figures: number[] = [];
  for (const words of [
    ['build', '--root', join(folder, 'large'), '--blobs', join(folder, 'blobs'), '-o', output, '--', '/app'],
    ['measure', output],
  ]) {
    const { status, stderr, pid } = spawnSync(process.execPath, ['-r', report, command, 'eif', ...words], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`eif ${words[0]} ended with ${status}: ${stderr}`);
    figures.push((Number(readFileSync(`${figure}${pid}`, 'utf8')) * 1024) / MB);
  }
  return Math.max(...figures);
}

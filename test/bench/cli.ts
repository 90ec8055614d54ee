/** Start-up time of the built command, beside that of a bare Node process. */
import { spawnSync } from 'node:child_process';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from '@dstack-cloud/scripts/build';
import { median, type Result } from './result.ts';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const rounds = 15;

export async function run(): Promise<Result[]> {
  await build();
  const command = resolve(repository, 'dist/bin/dstack-cloud.js');
  const bare = () => time(['-e', '0']);
  const help = () => time([command, '--help']);
  bare();
  help(); // Warm-up: one of each, so that both are in the page cache.
  const bareTimes: number[] = [];
  const helpTimes: number[] = [];
  for (let round = 0; round < rounds; round++) {
    bareTimes.push(bare());
    helpTimes.push(help());
  }
  const peer = { name: 'node -e 0', value: median(bareTimes) };
  return [{ suite: 'cli', name: 'start-ms', value: median(helpTimes), unit: 'ms', n: rounds, peer }];
}

function time(args: readonly string[]): number {
  const start = performance.now();
  const { status } = spawnSync(process.execPath, args, { stdio: 'ignore' });
  if (status !== 0) throw new Error(`node ${args.join(' ')} ended with ${status}`);
  return performance.now() - start;
}

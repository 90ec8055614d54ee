/** A program of the product as a process of its own, with what it writes, how large it gets and what holds it up. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { repository } from '../run-command.ts';

/** The worst of what a program's processes said of themselves. */
type Peak = { readonly loopMs: number; readonly heapBytes: number; readonly rssBytes: number };

export type WatchedProgram = {
  readonly process: ChildProcess;
  output(): string;
  /** Bytes written to standard output and error so far. */
  logBytes(): number;
  /** Waits for a text in the output; fails when the program ends or 20 s pass first. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
  /** The worst since a time (`Date.now()`), over all its processes. */
  peakSince(at: number): Peak;
  stop(): Promise<void>;
};

type Sample = { at: number; loopMs: number; heapUsed: number; rss: number };

const READY_MS = 20_000;

/** Starts `dist/bin/<name>.js`; returns at once. */
export function startWatched(
  name: string,
  args: readonly string[],
  options: { readonly env?: Record<string, string>; readonly cwd?: string } = {},
): WatchedProgram {
  const directory = mkdtempSync(join(tmpdir(), 'watched-'));
  const watch = join(repository, 'test/harness/preload/watch.mjs');
  const child = spawn(
    process.execPath,
    ['--import', watch, join(repository, `dist/bin/${name}.js`), ...args],
    {
      cwd: options.cwd ?? directory,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TEST_WATCH_FILE: join(directory, 'watch'), ...options.env },
    },
  );
  let output = '';
  let bytes = 0;
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      output += chunk.toString('utf8');
    });
  }
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const samples = (): Sample[] =>
    readdirSync(directory)
      .filter((file) => file.startsWith('watch.'))
      .flatMap((file) => readFileSync(join(directory, file), 'utf8').split('\n').slice(0, -1))
      .map((line) => JSON.parse(line) as Sample);
  return {
    process: child,
    output: () => output,
    logBytes: () => bytes,
    async until(pattern) {
      const deadline = Date.now() + READY_MS;
      for (;;) {
        const match = pattern.exec(output);
        if (match !== null) return match;
        if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
          throw new Error(`${name} did not say ${pattern}:\n${output.slice(-4000)}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    peakSince(at) {
      const later = samples().filter((sample) => sample.at >= at);
      const worst = (read: (sample: Sample) => number): number => Math.max(0, ...later.map(read));
      return {
        loopMs: worst(({ loopMs }) => loopMs),
        heapBytes: worst(({ heapUsed }) => heapUsed),
        rssBytes: worst(({ rss }) => rss),
      };
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), 6_000);
      await closed;
      clearTimeout(late);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

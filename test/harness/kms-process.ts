/** One run of the built `dstack-kms` as a process: its log, its ports, its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { repository } from './run-command.ts';

type LogLine = { readonly msg: string; readonly [field: string]: unknown };

export type KmsProcess = {
  readonly process: ChildProcess;
  /** Base URLs; each throws before its listener is up. */
  readonly url: string;
  readonly onboardUrl: string;
  readonly adminUrl: string;
  output(): string;
  lines(): LogLine[];
  /** Waits for a log message; fails when the process ends or 20 s pass first. */
  until(message: string): Promise<LogLine>;
  /** Ends it, by its pid; the exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  /** Waits until it ends by itself. */
  ended(): Promise<number | null>;
};

export type KmsRun = {
  readonly configFile: string;
  readonly directory: string;
  readonly env?: Record<string, string>;
  /** A module loaded before the program, for faults that nothing outside can make. */
  readonly preload?: string;
  /** Arguments after the configuration: a subcommand. */
  readonly args?: readonly string[];
};

const WAIT_MS = 20_000;
const STARTED = 'dstack-kms started';
const ONBOARDING = 'onboarding listener started';
const ADMIN = 'admin listener started';

/** Starts the program; returns at once. */
export function runKms({ configFile, directory, env, preload, args = [] }: KmsRun): KmsProcess {
  const before = preload === undefined ? [] : ['--import', join(repository, 'test/harness', preload)];
  const program = join(repository, 'dist/bin/dstack-kms.js');
  const child = spawn(process.execPath, [...before, program, '--config', configFile, ...args], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8');
    });
  }
  const closed = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  const lines = (): LogLine[] => output.split('\n').flatMap(parseLine);
  const find = (message: string): LogLine | undefined => lines().find(({ msg }) => msg === message);
  const address = (scheme: string, message: string): string => {
    const line = find(message);
    if (line === undefined) throw new Error(`No line "${message}" yet:\n${output}`);
    return `${scheme}://127.0.0.1:${String(line['port'])}`;
  };
  return {
    process: child,
    get url() {
      return address('https', STARTED);
    },
    get onboardUrl() {
      return address('http', ONBOARDING);
    },
    get adminUrl() {
      return address('http', ADMIN);
    },
    output: () => output,
    lines,
    async until(message) {
      const deadline = Date.now() + WAIT_MS;
      for (;;) {
        const line = find(message);
        if (line !== undefined) return line;
        if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
          throw new Error(`dstack-kms did not say "${message}":\n${output.slice(-4000)}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    async stop(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      return await closed;
    },
    ended: () => closed,
  };
}

function parseLine(text: string): LogLine[] {
  if (!text.startsWith('{')) return [];
  try {
    return [JSON.parse(text) as LogLine];
  } catch {
    return []; // Half a line: the process was killed while it wrote.
  }
}

/** Starts the processes of a load test, each on a core of its own where the system allows. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LoadPlan, LoadReport } from './plan.ts';

const here = dirname(fileURLToPath(import.meta.url));
const canPin =
  cpus().length > 1 && spawnSync('taskset', ['-c', '0', 'true'], { stdio: 'ignore' }).status === 0;

/** Core of the server under test. */
const SERVER_CORE = 0;
const LOAD_CORE = 1;

/** An argument vector that runs `argv` on one core, or `argv` itself where cores cannot be chosen. */
function pinned(core: number, argv: readonly string[]): string[] {
  return canPin ? ['taskset', '-c', String(core), ...argv] : [...argv];
}

/** Moves every thread of a running process to the server's core. */
export function pinProcess(pid: number): void {
  if (canPin) spawnSync('taskset', ['-a', '-c', '-p', String(SERVER_CORE), String(pid)], { stdio: 'ignore' });
}

/** Moves other processes, which a server needs beside it, to the core of the load. */
export function pinBesideLoad(pids: readonly number[]): void {
  for (const pid of canPin ? pids : []) {
    spawnSync('taskset', ['-a', '-c', '-p', String(LOAD_CORE), String(pid)], { stdio: 'ignore' });
  }
}

/** Drives one plan from the other core. */
export async function load(plan: LoadPlan): Promise<LoadReport> {
  const child = startScript('generator.ts', LOAD_CORE);
  child.stdin?.end(JSON.stringify(plan));
  const output = await collect(child, plan.warmUpMs + plan.durationMs + 60_000);
  return JSON.parse(output) as LoadReport;
}

/** Starts the bare server; `stop` ends it. */
export function bareServer(settings: {
  key: string;
  cert: string;
  clientCa: string;
  answerBytes: number;
}): Promise<{ port: number; stop(): void }> {
  return startServer('bare-server.ts', settings);
}

/**
 * Starts a server script of this folder, or at an absolute path, on the server's core or on that of the load: it reads its settings,
 * and writes its port.
 */
export async function startServer(
  script: string,
  settings: unknown,
  core: 'server' | 'load' = 'server',
): Promise<{ port: number; pid: number; stop(): void }> {
  const child = startScript(script, core === 'server' ? SERVER_CORE : LOAD_CORE);
  child.stdin?.write(JSON.stringify(settings));
  const port = await new Promise<number>((resolvePromise, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${script} ended with ${code}`)));
    child.stdout?.once('data', (data: Buffer) => {
      resolvePromise((JSON.parse(data.toString('utf8')) as { port: number }).port);
    });
  });
  return {
    port,
    pid: child.pid!,
    stop: () => {
      child.removeAllListeners('exit');
      child.kill();
    },
  };
}

/** Starts a load script of this folder on the core of the load; its plan is its standard input. */
export function runLoad(script: string): ChildProcess {
  return startScript(script, LOAD_CORE);
}

function startScript(name: string, core: number): ChildProcess {
  const argv = pinned(core, [
    process.execPath,
    '--import',
    'tsx',
    '-C',
    '@dstack/source',
    resolve(here, name),
  ]);
  const [command = '', ...args] = argv;
  return spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
}

function collect(child: ChildProcess, timeoutMs: number): Promise<string> {
  return new Promise((resolvePromise, reject) => {
    let output = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    child.stdout?.on('data', (data: Buffer) => {
      output += data.toString('utf8');
    });
    child.once('error', reject);
    child.once('exit', (code) => {
      clearTimeout(timer);
      if (code === 0) resolvePromise(output);
      else reject(new Error(`The load process ended with ${code}`));
    });
  });
}

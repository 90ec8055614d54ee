/** Runs a command of the repository as a user would, with its output captured and its time bounded. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const repository: string = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

export type Outcome = { code: number | null; stdout: string; stderr: string };

/** Runs `argv`; SIGKILL after `timeoutMs`. */
export function runCommand(
  argv: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; timeoutMs?: number; input?: string } = {},
): Promise<Outcome> {
  const [program = '', ...args] = argv;
  return new Promise((resolvePromise, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? repository,
      env: { ...process.env, NO_COLOR: '1', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 60_000,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString('utf8');
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString('utf8');
    });
    // A command need not read its input.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
    child.once('error', reject);
    child.once('close', (code) => resolvePromise({ code, stdout, stderr }));
  });
}

/** Command lines of all processes that have `directory` in their arguments or as their working directory (Linux). */
export function processesIn(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        const workingDirectory = readlinkSync(`/proc/${pid}/cwd`);
        return command.includes(directory) || workingDirectory.startsWith(directory)
          ? [`${pid} ${command}`]
          : [];
      } catch {
        return []; // It ended meanwhile.
      }
    });
}

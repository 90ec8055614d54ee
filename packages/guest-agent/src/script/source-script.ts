import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Readable } from 'node:stream';
import { type AppCompose, writeFileAtomic } from '@dstack-cloud/app';
import { GuestError, type GuestErrorCode } from '../errors.ts';

/** Largest environment that a script may leave behind, bytes. */
const MAX_ENV_BYTES = 4 * 1024 * 1024;
/** Bash builtins and its own bookkeeping that are no variables of the script. */
const SHELL_OWN = new Set(['_', 'SHLVL', 'PWD', 'OLDPWD', 'BASH_EXECUTION_STRING']);

/** A script of app-compose, and how it runs. */
export interface ScriptOptions {
  /** The member that holds it, for messages. */
  readonly member: 'init_script' | 'pre_launch_script';
  readonly script: string;
  readonly workDir: string;
  readonly env: Readonly<Record<string, string>>;
  /** Ends the script when it fires. */
  readonly signal?: AbortSignal;
  readonly onOutput: (bytes: Uint8Array) => void;
}

const CODES = {
  init_script: 'init-script-failed',
  pre_launch_script: 'pre-launch-failed',
} as const satisfies Record<ScriptOptions['member'], GuestErrorCode>;

/**
 * An application with scripts is refused before its keys are asked for when there is no bash to run them.
 *
 * @throws GuestError `shell-missing`
 */
export function requireShell(compose: AppCompose, path: string = process.env['PATH'] ?? ''): void {
  const scripts = [...compose.initScripts, compose.preLaunchScript ?? ''];
  if (compose.runner !== 'bash' && scripts.every((script) => script.trim() === '')) return;
  if (path.split(delimiter).some((directory) => directory !== '' && isProgram(join(directory, 'bash'))))
    return;
  throw new GuestError('shell-missing', 'The application has scripts to run, and this machine has no bash', {
    expected: 'bash in PATH',
    found: path,
  });
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Sources a script in bash, in the work directory, and returns the environment that it leaves behind. A script without
 * text runs nothing, so it needs no bash.
 *
 * @throws GuestError when there is no bash, the script fails, or it exits before its end
 */
export async function sourceScript(options: ScriptOptions): Promise<Record<string, string>> {
  const { member, script } = options;
  if (script.trim() === '') return { ...options.env };
  const fail = (problem: string, cause?: unknown): GuestError =>
    new GuestError(CODES[member], `${member} ${problem}`, { cause });
  const path = join(options.workDir, `.${member.replaceAll('_', '-')}.sh`);
  await writeFileAtomic(path, script);
  const child = spawn('bash', ['-c', 'source "$1" 3>&- && env -0 >&3', 'bash', path], {
    cwd: options.workDir,
    env: { ...options.env },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    ...(options.signal ? { signal: options.signal } : {}),
  });
  child.stdout?.on('data', options.onOutput);
  child.stderr?.on('data', options.onOutput);
  const left = collect(child.stdio[3] as Readable);
  left.catch(() => undefined);
  const code = await new Promise<number | string>((resolve, reject) => {
    child.once('error', (cause) => {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      reject(fail(`cannot run: ${missing ? 'this machine has no bash' : cause.message}`, cause));
    });
    // Not `close`: what the script started in the background may keep its output open for ever.
    child.once('exit', (status, signal) => resolve(status ?? `signal ${signal}`));
  });
  if (code !== 0) throw fail(`failed with status ${code}`);
  const bytes = await left;
  if (bytes === undefined) throw fail(`leaves more than ${MAX_ENV_BYTES} bytes of environment`);
  const variables = parseEnvZero(bytes);
  if (variables === undefined) throw fail('called exit: the application is not started');
  return variables;
}

/** Undefined when it is too much. */
async function collect(stream: Readable): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= MAX_ENV_BYTES) chunks.push(chunk);
  }
  return size > MAX_ENV_BYTES ? undefined : Buffer.concat(chunks);
}

function parseEnvZero(bytes: Buffer): Record<string, string> | undefined {
  if (bytes.length === 0) return undefined;
  const entries = bytes
    .toString('utf8')
    .split('\0')
    .filter((entry) => entry.includes('='))
    .map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)] as const);
  return Object.fromEntries(entries.filter(([name]) => !SHELL_OWN.has(name)));
}

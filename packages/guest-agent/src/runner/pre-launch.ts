import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { writeFileAtomic } from '@dstack-cloud/app';
import { GuestError } from '../errors.ts';

/** Largest environment that a script may leave behind, bytes. */
const MAX_ENV_BYTES = 4 * 1024 * 1024;
/** Bash builtins and its own bookkeeping that are no variables of the script. */
const SHELL_OWN = new Set(['_', 'SHLVL', 'PWD', 'OLDPWD', 'BASH_EXECUTION_STRING']);

/** How pre_launch_script runs. */
export interface PreLaunchOptions {
  readonly script: string;
  readonly workDir: string;
  readonly env: Readonly<Record<string, string>>;
  /** Ends the script when it fires. */
  readonly signal?: AbortSignal;
  readonly onOutput: (bytes: Uint8Array) => void;
}

/**
 * Sources pre_launch_script in bash, in the work directory (chapter 30 section 4.8), and returns the environment that
 * it leaves behind, since what it exports reaches the compose file.
 *
 * @throws GuestError `pre-launch-failed` when there is no bash, the script fails, or it exits before its end
 */
export async function runPreLaunch(options: PreLaunchOptions): Promise<Record<string, string>> {
  const path = join(options.workDir, '.pre-launch.sh');
  await writeFileAtomic(path, options.script);
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
      const reason = missing ? 'this machine has no bash' : cause.message;
      reject(new GuestError('pre-launch-failed', `pre_launch_script cannot run: ${reason}`, { cause }));
    });
    // Not `close`: what the script started in the background may keep its output open for ever.
    child.once('exit', (status, signal) => resolve(status ?? `signal ${signal}`));
  });
  if (code !== 0) throw new GuestError('pre-launch-failed', `pre_launch_script failed with status ${code}`);
  const variables = parseEnvZero(await left);
  if (variables === undefined) {
    throw new GuestError(
      'pre-launch-failed',
      'pre_launch_script called exit: the application is not started',
    );
  }
  return variables;
}

async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= MAX_ENV_BYTES) chunks.push(chunk);
  }
  if (size > MAX_ENV_BYTES) {
    throw new GuestError(
      'pre-launch-failed',
      `pre_launch_script leaves more than ${MAX_ENV_BYTES} bytes of environment`,
    );
  }
  return Buffer.concat(chunks);
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

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { resolveProgram } from '@dstack-cloud/vmm';
import type { Steps } from './steps.ts';
import type { Workspace } from './workspace.ts';

/** The built `dstack-cloud`, driven as a user would. */
export interface CommandLine {
  run(directory: string, ...args: string[]): Promise<void>;
  /** Runs a command that must succeed, and parses its `--json`. */
  json(directory: string, ...args: string[]): Promise<Record<string, unknown>>;
  /** Runs a command that must fail; returns its error's message. */
  refused(directory: string, ...args: string[]): Promise<string>;
}

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
}

/** A virtual machine without KVM, on a loaded host, takes minutes to boot. */
const TIMEOUT_MS = 900_000;
const MAX_OUTPUT = 16 * 1024 * 1024;

export function commandLine(
  space: Workspace,
  config: string,
  steps: Steps,
  signal: AbortSignal,
): CommandLine {
  const start = async (directory: string, args: readonly string[]): Promise<Outcome> => {
    steps.note(`$ dstack-cloud ${args.join(' ')}`);
    const [program, ...before] = resolveProgram('dstack-cloud') as [string, ...string[]];
    const child = spawn(program, [...before, '--json', '-C', directory, ...args], {
      cwd: space.directory,
      env: { ...process.env, DSTACK_CLOUD_CONFIG: config, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
    });
    const interrupt = (): void => void child.kill('SIGINT');
    signal.addEventListener('abort', interrupt, { once: true });
    let stdout = '';
    child.stdout.on('data', (chunk: Buffer) => {
      if (stdout.length < MAX_OUTPUT) stdout += chunk.toString('utf8');
    });
    createInterface({ input: child.stderr }).on('line', (line) => steps.note(`  ${line}`));
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    signal.removeEventListener('abort', interrupt);
    signal.throwIfAborted();
    return { code, stdout };
  };
  const json = async (directory: string, ...args: string[]): Promise<Record<string, unknown>> => {
    const { code, stdout } = await start(directory, args);
    const document = parse(stdout);
    // `verify` prints its report also when a link is broken.
    if (code !== 0 && document['links'] === undefined) throw new Error(errorOf(document, args, code));
    return document;
  };
  return {
    json,
    run: async (directory, ...args) => void (await json(directory, ...args)),
    refused: async (directory, ...args) => {
      const { code, stdout } = await start(directory, args);
      if (code === 0) throw new Error(`dstack-cloud ${args.join(' ')} succeeded; it had to be refused`);
      return errorOf(parse(stdout), args, code);
    },
  };
}

function errorOf(document: Record<string, unknown>, args: readonly string[], code: number | null): string {
  const { message } = (document['error'] ?? {}) as { message?: unknown };
  return typeof message === 'string' ? message : `dstack-cloud ${args.join(' ')} ended with ${code}`;
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

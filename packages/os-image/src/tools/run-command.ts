import { type ChildProcess, spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { OsImageError } from '../errors.ts';

/** Most that is kept of what a command says, bytes. */
const MAX_OUTPUT = 4 * 1024 * 1024;

/** Debian packages of the programs that a build takes from the machine. */
const PACKAGES: Readonly<Record<string, string>> = {
  'apt-get': 'apt',
  'dpkg-deb': 'dpkg',
  npm: 'npm',
  tar: 'tar',
};

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** A file that the command reads as standard input. */
  readonly inputFile?: string;
}

/**
 * Runs a program to its end, without a shell, and returns what it printed.
 *
 * @throws OsImageError `tool-missing` when it is not installed, `build-failed` with the end of what it said
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const input = options.inputFile === undefined ? undefined : await open(options.inputFile);
  try {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: [input?.fd ?? 'ignore', 'pipe', 'pipe'],
    });
    return await outputOf(child, command);
  } finally {
    await input?.close();
  }
}

async function outputOf(child: ChildProcess, command: string): Promise<string> {
  const out = collect(child.stdout!);
  const err = collect(child.stderr!);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT')
      throw new OsImageError(
        'tool-missing',
        `The program ${command} is not installed; images are built on Debian and its relatives, where the package ${PACKAGES[command] ?? command} has it`,
        { cause },
      );
    throw new OsImageError('build-failed', `${command} could not be run: ${cause.message}`, { cause });
  });
  if (code !== 0) {
    const said = `${err()}${out()}`.trim().split('\n').slice(-12).join('\n');
    throw new OsImageError('build-failed', `${command} ended with status ${code}: ${said}`);
  }
  return out();
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on('data', (chunk: Buffer) => {
    if (size < MAX_OUTPUT) chunks.push(chunk);
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString('utf8');
}

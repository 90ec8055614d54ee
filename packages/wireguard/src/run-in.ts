import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { WireGuardError } from './errors.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 10_000;
const MAX_OUTPUT = 16 * 2 ** 20;

/**
 * Runs a program, in another network namespace (ip-netns(8)) where one is named.
 * @returns what it printed
 * @throws WireGuardError with what it complained about; `cause` is the error of child_process
 */
export async function runIn(
  namespace: string | undefined,
  program: string,
  input: readonly string[],
): Promise<string> {
  const [file, ...words] = commandIn(namespace, program, input);
  try {
    const { stdout } = await run(file!, words, { timeout: TIMEOUT_MS, maxBuffer: MAX_OUTPUT });
    return stdout;
  } catch (cause) {
    const { stderr = '', code } = cause as { stderr?: string; code?: unknown };
    const why = code === 'ENOENT' ? 'it is not installed' : stderr.trim().slice(0, 300);
    throw new WireGuardError(`${program} ${input.slice(0, 3).join(' ')} failed: ${why}`, { cause });
  }
}

export function commandIn(
  namespace: string | undefined,
  program: string,
  input: readonly string[],
): readonly string[] {
  return namespace === undefined
    ? [program, ...input]
    : ['ip', 'netns', 'exec', namespace, program, ...input];
}

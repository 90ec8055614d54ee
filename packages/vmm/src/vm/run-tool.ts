import { execFile } from 'node:child_process';

const MAX_OUTPUT = 1024 * 1024;

/** Outcome of a program that ends by itself or at a time limit. */
interface ToolOutcome {
  /** Undefined when it was ended by a signal, or did not start. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program without a shell and without input. */
export async function runTool(
  program: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<ToolOutcome> {
  return await new Promise((resolve) => {
    const options = { timeout: timeoutMs, maxBuffer: MAX_OUTPUT, killSignal: 'SIGKILL' as const };
    const child = execFile(program, [...args], options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : undefined;
      resolve({ code, stdout, stderr });
    });
    child.stdin?.end();
  });
}

import { VmmError } from '../errors.ts';
import { resolveProgram } from '../programs/programs.ts';
import { runTool } from './run-tool.ts';

const TIMEOUT_MS = 60_000;

/** Root certificate (PEM) of the simulated hardware that a seed makes. @throws VmmError `start_failed` */
export async function simulatedRoot(seedFile: string): Promise<Uint8Array> {
  const [program, ...args] = resolveProgram('dstack-tee-simulator') as [string, ...string[]];
  const { code, stdout, stderr } = await runTool(
    program,
    [...args, 'root', '--seed-file', seedFile],
    TIMEOUT_MS,
  );
  if (code === 0) return new TextEncoder().encode(stdout);
  throw new VmmError('start_failed', `The simulated TEE has no root: ${stderr.trim().slice(-512)}`);
}

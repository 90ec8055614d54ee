import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { resolveProgram } from '@dstack-cloud/vmm';
import { CliError } from '../errors.ts';
import type { OsImage } from './os-image.ts';

/** Names of images that exist only in the simulator. */
export const SIMULATED_IMAGE: RegExp = /^dstack-sim[a-z0-9.-]*$/;

const TIMEOUT_MS = 20_000;

const asked = new Map<string, Promise<OsImage>>();

/** Asks the simulator (a program of its own: nothing here depends on it) what it would measure; once for each name. */
export async function simulatedImage(name: string): Promise<OsImage> {
  const answer = asked.get(name) ?? ask(name);
  asked.set(name, answer);
  return await answer;
}

async function ask(name: string): Promise<OsImage> {
  const [program, ...args] = resolveProgram('dstack-tee-simulator') as [string, ...string[]];
  try {
    const run = promisify(execFile);
    const { stdout } = await run(program, [...args, 'image', '--image', name], {
      timeout: TIMEOUT_MS,
      maxBuffer: 1024 * 1024,
    });
    const document = JSON.parse(stdout) as { os_image_hash?: unknown; vm_config?: unknown };
    const hash = String(document.os_image_hash);
    if (!/^[0-9a-f]{64}$/.test(hash)) throw new Error('the simulator gave no hash');
    return { hash, vmConfig: JSON.stringify(document.vm_config) };
  } catch (error) {
    throw new CliError('file_missing', `The simulated image ${name} cannot be measured`, { cause: error });
  }
}

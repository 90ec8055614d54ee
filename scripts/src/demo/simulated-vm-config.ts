import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { resolveProgram } from '@dstack-cloud/vmm';

/** The vm_config of a simulated image, as the VMM would write it for a real one. */
export async function simulatedVmConfig(image: string): Promise<string> {
  const [program, ...args] = resolveProgram('dstack-tee-simulator') as [string, ...string[]];
  const { stdout } = await promisify(execFile)(program, [...args, 'image', '--image', image], {
    timeout: 20_000,
    maxBuffer: 1024 * 1024,
  });
  return JSON.stringify((JSON.parse(stdout) as { vm_config: unknown }).vm_config);
}

import { readFileBounded } from '@dstack-cloud/app';
import { expandHome } from '../../context.ts';
import { CliError } from '../../errors.ts';
import type { Place } from '../platform.ts';
import type { SimulatedRoots } from './disks/made-disks.ts';

const MAX_ROOT_BYTES = 64 * 1024;
const FILES = { tdx: 'simulated-root-ca.pem', gcp_tpm: 'simulated-tpm-root-ca.pem' } as const;

/**
 * The roots beside the vendors' that the global configuration names, as a development image takes them along to judge
 * others' evidence. Production images do not read them.
 *
 * @throws CliError `bad_config`
 */
export async function simulatedRoots({ context, config }: Place): Promise<SimulatedRoots> {
  const roots: Partial<Record<string, Uint8Array>> = {};
  for (const name of ['tdx', 'gcp_tpm'] as const) {
    const file = config.attestation.root_ca[name];
    if (file === undefined) continue;
    const path = expandHome(context, file);
    roots[FILES[name]] = await readFileBounded(path, MAX_ROOT_BYTES).catch((cause: Error) => {
      throw new CliError('bad_config', `Trust root ${path} cannot be read`, {
        cause,
        hint: `Correct attestation.root_ca.${name} with dstack-cloud config-edit`,
      });
    });
  }
  return roots;
}

import { homedir } from 'node:os';
import { join } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import {
  addRoot,
  INTEL_PCS,
  ROOT_NAMES,
  rootCertificate,
  type VerifyOptions,
  vendorCollateral,
  vendorRoots,
} from '@dstack-cloud/attestation';
import type { GlobalConfig } from '../config/global-config.ts';
import { type Context, expandHome } from '../context.ts';
import { CliError } from '../errors.ts';

const MAX_ROOT_BYTES = 64 * 1024;

/** What evidence is verified with. */
export type Trust = Pick<VerifyOptions, 'roots' | 'collateral' | 'platform'>;

/**
 * The vendors' roots and services. Roots that the configuration names stand beside the vendors'; what they vouch for is
 * called simulated, and of such machines Google endorses no firmware.
 */
export async function loadTrust(context: Context, config: GlobalConfig): Promise<Trust> {
  let roots = vendorRoots();
  for (const name of ROOT_NAMES) {
    const file = config.attestation.root_ca[name];
    if (file !== undefined) roots = addRoot(roots, name, await readRoot(context, name, file));
  }
  const pccs = pccsUrl(config);
  const cache = context.env['XDG_CACHE_HOME'] || join(context.env['HOME'] ?? homedir(), '.cache');
  const collateral = vendorCollateral({
    roots,
    pccs,
    amdKds: config.services.amd_kds_url || undefined,
    // What a service of a test serves does not stay.
    ...(pccs === INTEL_PCS ? { cacheDir: join(cache, 'dstack-cloud/pcs') } : {}),
  });
  return { roots, collateral, platform: { gcpFirmwareEndorsement: 'vendor' } };
}

/** Where Intel's collateral comes from. */
export function pccsUrl(config: GlobalConfig): string {
  return config.services.pccs_url || INTEL_PCS;
}

async function readRoot(context: Context, name: string, file: string): Promise<Uint8Array> {
  const path = expandHome(context, file);
  try {
    return rootCertificate(await readFileBounded(path, MAX_ROOT_BYTES));
  } catch (error) {
    throw new CliError('bad_config', `Trust root ${path} cannot be read`, {
      cause: error,
      hint: `Correct attestation.root_ca.${name} with dstack-cloud config-edit`,
    });
  }
}

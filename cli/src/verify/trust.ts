import { homedir } from 'node:os';
import { join } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import {
  type CollateralSource,
  pcsCollateral,
  type TrustRoots,
  vendorRoots,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import { decodePem } from '@dstack-cloud/encoding';
import type { GlobalConfig } from '../config/global-config.ts';
import { type Context, expandHome } from '../context.ts';
import { CliError } from '../errors.ts';

const MAX_ROOT_BYTES = 64 * 1024;
/** Intel's own service; any PCCS answers the same paths. */
const INTEL_PCS = 'https://api.trustedservices.intel.com';

/** The roots and the collateral that evidence is judged with. */
export interface Trust {
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
  readonly pccsUrl: string;
}

/** The vendors' roots, and the one that the configuration adds; what that one proves is called simulated. */
export async function loadTrust(context: Context, config: GlobalConfig): Promise<Trust> {
  const file = config.attestation.root_ca.tdx;
  const roots =
    file === undefined ? vendorRoots() : withTdxRoot(vendorRoots(), await readRoot(context, file));
  const pccsUrl = config.services.pccs_url || INTEL_PCS;
  const cache = context.env['XDG_CACHE_HOME'] || join(context.env['HOME'] ?? homedir(), '.cache');
  const own = pccsUrl === INTEL_PCS ? { cacheDir: join(cache, 'dstack-cloud/pcs') } : {};
  return { roots, collateral: pcsCollateral({ baseUrl: pccsUrl, ...own }), pccsUrl };
}

async function readRoot(context: Context, file: string): Promise<Uint8Array> {
  const path = expandHome(context, file);
  try {
    const bytes = await readFileBounded(path, MAX_ROOT_BYTES);
    const text = new TextDecoder().decode(bytes);
    return text.includes('-----BEGIN') ? decodePem(text, 'CERTIFICATE') : bytes;
  } catch (error) {
    throw new CliError('bad_config', `Trust root ${path} cannot be read`, {
      cause: error,
      hint: 'Correct attestation.root_ca.tdx with dstack-cloud config-edit',
    });
  }
}

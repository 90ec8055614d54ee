import { readFileSync } from 'node:fs';
import { VmmError } from '../../errors.ts';
import type { VmmConfig } from '../config/vmm-config.ts';

/** Whether the kernel of this host starts TDs (Linux: module parameter of kvm_intel). */
const TDX_SWITCH = '/sys/module/kvm_intel/parameters/tdx';

/** The TEE that a machine gets. */
export type TeeChoice = 'tdx' | 'simulated-tdx' | 'none';

/**
 * The TEE of a new machine: a real one where the host has it, a simulated one only where the operator configured its
 * seed.
 *
 * @throws VmmError `bad_option` when there is none
 */
export function teeOf(noTee: boolean, { platform, simulated_tee_seed }: VmmConfig['cvm']): TeeChoice {
  if (noTee) return 'none';
  if (platform !== 'auto') return platform;
  if (hasTdx()) return 'tdx';
  if (simulated_tee_seed !== '') return 'simulated-tdx';
  throw new VmmError(
    'bad_option',
    'This host has no TDX: configure a simulated TEE (cvm.simulated_tee_seed, development only), or ask for no_tee',
    { expected: `Y in ${TDX_SWITCH}`, found: 'no TDX' },
  );
}

function hasTdx(): boolean {
  try {
    return readFileSync(TDX_SWITCH, 'utf8').trim() === 'Y';
  } catch {
    return false;
  }
}

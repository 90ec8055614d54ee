import { join } from 'node:path';
import type { GuestConfig } from './guest-config.ts';

/** Where a simulated TEE's root certificate lies, once it was copied from the host's files. */
export function simulatedRootFile({ runDir }: Pick<GuestConfig, 'runDir'>): string {
  return join(runDir, 'dstack', 'simulated-root-ca.pem');
}

/** Where the root certificate of simulated vTPMs lies, if the host gave one. */
export function simulatedTpmRootFile({ runDir }: Pick<GuestConfig, 'runDir'>): string {
  return join(runDir, 'dstack', 'simulated-tpm-root-ca.pem');
}

/** Whether this machine's TEE is simulated: then it believes what the same host simulates for others. */
export function hasSimulatedTee(config: Pick<GuestConfig, 'runDir' | 'tdxRootFile'>): boolean {
  return config.tdxRootFile === simulatedRootFile(config);
}

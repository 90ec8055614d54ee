import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type CvmManifest, readManifest } from './manifest.ts';
import { isAlive } from './process-identity.ts';
import { type CvmState, readState } from './state.ts';

/** What is known about one machine. */
export interface CvmStatus {
  readonly dir: string;
  readonly manifest: CvmManifest;
  readonly state: CvmState;
}

/** Manifest and state of the machine in `dir`; a state that its dead supervisor left is corrected. */
export async function cvmStatus(dir: string): Promise<CvmStatus> {
  const manifest = await readManifest(dir);
  const state = await readState(dir);
  const claimsLife =
    state.status === 'running' || (state.status === 'preparing' && state.supervisor !== null);
  if (claimsLife && (state.supervisor === null || !isAlive(state.supervisor)))
    return { dir, manifest, state: { ...state, status: 'failed', error: 'The supervisor died', urls: {} } };
  return { dir, manifest, state };
}

/** Every machine below the run folder, oldest first. A folder that holds no machine is passed over. */
export async function listCvms(runPath: string): Promise<CvmStatus[]> {
  const names = await readdir(runPath).catch(() => []);
  const found: CvmStatus[] = [];
  for (const name of names.sort()) {
    const status = await cvmStatus(join(runPath, name)).catch(() => undefined);
    if (status !== undefined) found.push(status);
  }
  return found.sort((a, b) => a.manifest.created_at_ms - b.manifest.created_at_ms);
}

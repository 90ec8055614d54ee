import { isAlive, isThere, lockHolder, type ProcessIdentity } from '@dstack-cloud/files';

import type { CvmState } from './state.ts';

/** The lock that a supervisor holds as long as it lives. */
export const SUPERVISOR_LOCK = 'supervisor';

/**
 * The living supervisor of the machine in `dir`: who holds its lock, also when the state cannot be read, or who was
 * started a moment ago and has not yet taken it.
 */
export function supervisorOf(dir: string, state: CvmState | undefined): ProcessIdentity | undefined {
  const holder = isThere(dir) ? lockHolder(dir, SUPERVISOR_LOCK) : undefined;
  if (holder !== undefined) return holder;
  const named = state?.supervisor;
  return named != null && isAlive(named) ? named : undefined;
}

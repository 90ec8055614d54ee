import { readFileSync, readlinkSync } from 'node:fs';
import { isAlive, isThere, lockHolder, type ProcessIdentity, processIdentity } from '@dstack-cloud/files';
import { processIds } from '../programs/machine-processes.ts';

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

/** Living supervisors of a machine whose folder was removed: it was their working directory. Linux only. */
export function supervisorsOfGone(dir: string): ProcessIdentity[] {
  return processIds().flatMap((pid) => {
    const identity = processIdentity(pid);
    try {
      const isOurs = readlinkSync(`/proc/${pid}/cwd`) === `${dir} (deleted)`;
      const isSupervisor = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes('supervise');
      return identity !== undefined && isOurs && isSupervisor && isAlive(identity) ? [identity] : [];
    } catch {
      // It ended, or is another user's.
      return [];
    }
  });
}

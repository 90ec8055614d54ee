import { readFileSync } from 'node:fs';

/** A process by id and start time: a process id alone may since belong to somebody else. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of proc(5) `stat`, clock ticks since boot; empty where there is no /proc. */
  readonly start_time: string;
}

/** The identity of a living process, or undefined when there is none with this id. */
export function processIdentity(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return process.platform !== 'linux' && signalReaches(pid) ? { pid, start_time: '' } : undefined;
  }
  // proc(5): the second field is the name in parentheses and may itself hold blanks and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // A zombie has ended; only its parent has not looked yet.
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
  return { pid, start_time: fields[19] ?? '' };
}

/** True while exactly this process lives. */
export function isAlive(identity: ProcessIdentity): boolean {
  return processIdentity(identity.pid)?.start_time === identity.start_time;
}

function signalReaches(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, type ProcessIdentity, processIdentity } from '@dstack-cloud/files';
import { canonical } from '../folder/machine-folder.ts';
import { sendSignal } from './send-signal.ts';

/** Every program of a machine has it in its environment, and so has what it starts, whatever session that moves to. */
export const MACHINE_MARK = 'DSTACK_MACHINE_DIR';
const POLL_MS = 25;
/** What keeps starting others is killed so often. */
const MAX_ROUNDS = 20;

/** The line of the environment that marks a machine's processes. */
export function machineMark(dir: string): string {
  return `${MACHINE_MARK}=${canonical(dir)}`;
}

/** Living processes of the machine in `dir`, by their environment; without Linux's /proc none are found. */
export function machineProcesses(dir: string): ProcessIdentity[] {
  const mark = machineMark(dir);
  return markedProcesses((line) => line === mark).map(({ identity }) => identity);
}

/** Folders of all machines of which a process lives. */
export function foldersWithProcesses(): string[] {
  const start = `${MACHINE_MARK}=`;
  const marked = markedProcesses((line) => line.startsWith(start));
  return [...new Set(marked.map(({ line }) => line.slice(start.length)))];
}

/** Ends all of them: asks, waits, then kills until none is left. @returns how many there were */
export async function endMachineProcesses(dir: string, graceMs: number): Promise<number> {
  const found = machineProcesses(dir);
  for (const identity of found) signalTo(identity, 'SIGTERM');
  const deadline = performance.now() + graceMs;
  while (found.some(isAlive) && performance.now() < deadline) await sleep(POLL_MS);
  const seen = new Map(found.map((identity) => [identity.pid, identity]));
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const left = machineProcesses(dir);
    for (const identity of left) seen.set(identity.pid, identity);
    // A process that is being ended has no environment any more, and still has its ports and files.
    if (left.length === 0 && ![...seen.values()].some(isAlive)) break;
    for (const identity of left) signalTo(identity, 'SIGKILL');
    await sleep(POLL_MS);
  }
  return found.length;
}

function signalTo(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  // A process id may be another process a moment later.
  if (isAlive(identity)) sendSignal(identity.pid, signal);
}

function markedProcesses(isMark: (line: string) => boolean): { identity: ProcessIdentity; line: string }[] {
  return processIds().flatMap((pid) => {
    // Before the environment: what has this id afterwards may be another process.
    const identity = processIdentity(pid);
    if (identity === undefined || pid === process.pid) return [];
    const line = environmentOf(pid).find(isMark);
    return line === undefined || !isAlive(identity) ? [] : [{ identity, line }];
  });
}

/** Ids of all processes; none where there is no /proc. */
export function processIds(): number[] {
  try {
    return readdirSync('/proc').flatMap((name) => (/^[0-9]+$/.test(name) ? [Number(name)] : []));
  } catch {
    return [];
  }
}

/** Of a process that ended, or of another user, nothing. */
function environmentOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

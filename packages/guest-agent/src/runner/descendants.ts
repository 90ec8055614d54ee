import { readdirSync, readFileSync } from 'node:fs';

/** A process as the kernel knows it: an id alone may be another process a moment later. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot; field 22 of proc(5) `stat`. */
  readonly startedAt: string;
}

/** All processes below one, without itself, from Linux's /proc; empty elsewhere. */
export function descendants(pid: number, proc = '/proc'): ProcessIdentity[] {
  const children = new Map<number, ProcessIdentity[]>();
  for (const { parent, ...child } of processes(proc)) {
    children.set(parent, [...(children.get(parent) ?? []), child]);
  }
  const found = new Map<number, ProcessIdentity>();
  const queue = [pid];
  for (let current = queue.pop(); current !== undefined; current = queue.pop()) {
    for (const child of children.get(current) ?? []) {
      if (found.has(child.pid)) continue;
      found.set(child.pid, child);
      queue.push(child.pid);
    }
  }
  return [...found.values()];
}

/** Ends a process if it is still the one that was seen. */
export function killProcess({ pid, startedAt }: ProcessIdentity, proc = '/proc'): void {
  if (readProcess(pid, proc)?.startedAt !== startedAt) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended meanwhile.
  }
}

function processes(proc: string): (ProcessIdentity & { readonly parent: number })[] {
  try {
    const names = readdirSync(proc).filter((name) => /^[0-9]+$/.test(name));
    return names.flatMap((name) => readProcess(Number(name), proc) ?? []);
  } catch {
    return [];
  }
}

function readProcess(pid: number, proc: string): (ProcessIdentity & { readonly parent: number }) | undefined {
  try {
    // proc(5): the name in parentheses may hold anything, so read after the last one; field 3 comes next.
    const stat = readFileSync(`${proc}/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { pid, parent: Number(fields[1]), startedAt: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

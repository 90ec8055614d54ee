import { readdirSync, readFileSync } from 'node:fs';

/** Ids of all processes below one, without itself, from Linux's /proc; empty elsewhere. */
export function descendants(pid: number, proc = '/proc'): number[] {
  const children = new Map<number, number[]>();
  for (const [child, parent] of parents(proc)) children.set(parent, [...(children.get(parent) ?? []), child]);
  const found: number[] = [];
  const queue = [pid];
  for (let current = queue.pop(); current !== undefined; current = queue.pop()) {
    const next = (children.get(current) ?? []).filter((child) => !found.includes(child));
    found.push(...next);
    queue.push(...next);
  }
  return found;
}

function parents(proc: string): [child: number, parent: number][] {
  let names: string[];
  try {
    names = readdirSync(proc).filter((name) => /^[0-9]+$/.test(name));
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    try {
      // proc(5): the name in parentheses may hold anything, so read after the last one.
      const stat = readFileSync(`${proc}/${name}/stat`, 'utf8');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      return [[Number(name), parent] as [number, number]];
    } catch {
      return [];
    }
  });
}

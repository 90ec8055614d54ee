import { readdirSync, readFileSync } from 'node:fs';
import { VmmError } from '../../errors.ts';

/**
 * The smallest context id of the pool that no machine of ours has and no QEMU of this host runs with. The pool is above
 * `start` and has one fewer than `size`, as the original's.
 *
 * @throws VmmError `no_resources` when all are taken
 */
export function freeCid(
  { start, size }: { readonly start: number; readonly size: number },
  taken: ReadonlySet<number>,
  running: ReadonlySet<number> = runningCids(),
): number {
  for (let cid = start + 1; cid < start + size; cid += 1)
    if (!taken.has(cid) && !running.has(cid)) return cid;
  throw new VmmError('no_resources', `All ${size - 1} context ids from ${start + 1} on are taken`, {
    expected: 'a free context id',
    found: 'none; remove machines, or raise cvm.cid_pool_size',
  });
}

/** Context ids that QEMU processes of this host were started with, whoever started them. */
export function runningCids(): Set<number> {
  const cids = new Set<number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    for (const cid of cidsOf(name)) cids.add(cid);
  }
  return cids;
}

function cidsOf(pid: string): number[] {
  try {
    const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
    return [...line.matchAll(/guest-cid=(\d{1,10})/g)].map(([, cid]) => Number(cid));
  } catch {
    // It ended, or is hidden from this user.
    return [];
  }
}

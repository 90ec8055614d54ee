import { join } from 'node:path';
import { VmmError } from '../../errors.ts';
import { type HostHardware, isUsable, readAttribute } from './host-hardware.ts';

/** Memory of a machine on one NUMA node of this host. */
export interface NodeMemory {
  readonly node: number;
  readonly gib: number;
}

const GIB = 1024 ** 3;
const MOUNT = 'hugepages';

/**
 * Refuses memory that this host's huge pages cannot give: all of them for a machine that is made, those that are free for
 * one that starts.
 *
 * @throws VmmError `bad_option`, `no_resources`
 */
export async function requireHugePages(
  host: HostHardware,
  wanted: readonly NodeMemory[],
  which: 'all' | 'free',
): Promise<void> {
  const mount = join(host.dev, MOUNT);
  const pageBytes = await host.pageBytes(mount);
  if (pageBytes === undefined)
    throw new VmmError(
      'bad_option',
      `${mount} gives no huge pages: mount -t hugetlbfs none ${mount}, or ask for no huge pages`,
      { expected: 'a hugetlbfs', found: 'none' },
    );
  if ((await isUsable(host, MOUNT)) !== true)
    throw new VmmError('bad_option', `This user may not make files in ${mount}: give it write permission`, {
      expected: 'a writable folder',
      found: 'no permission',
    });
  for (const { node, gib } of wanted)
    await requirePages(host, node, Math.ceil((gib * GIB) / pageBytes), { pageBytes, which });
}

async function requirePages(
  { sys }: HostHardware,
  node: number,
  wanted: number,
  { pageBytes, which }: { readonly pageBytes: number; readonly which: 'all' | 'free' },
): Promise<void> {
  const folder = join(sys, `devices/system/node/node${node}/hugepages/hugepages-${pageBytes / 1024}kB`);
  const total = join(folder, 'nr_hugepages');
  const has = Number((await readAttribute(which === 'all' ? total : join(folder, 'free_hugepages'))) ?? 0);
  if (has >= wanted) return;
  throw new VmmError(
    which === 'all' ? 'bad_option' : 'no_resources',
    `NUMA node ${node} has ${has} ${which === 'all' ? '' : 'free '}huge pages of ${pageBytes / 1024} KiB, and the machine needs ${wanted}: write a larger number to ${total}, or stop a machine that has some`,
    { expected: `at least ${wanted} pages`, found: `${has} pages` },
  );
}

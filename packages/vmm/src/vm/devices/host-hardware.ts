import { constants } from 'node:fs';
import { access, readdir, readFile, readlink, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';

/** Where this host describes its hardware. */
export interface HostHardware {
  /** Mount point of sysfs. */
  readonly sys: string;
  readonly dev: string;
  /** Size of the pages that a hugetlbfs mounted there gives; undefined when none is. */
  pageBytes(path: string): Promise<number | undefined>;
}

/** Type of a hugetlbfs (Linux: include/uapi/linux/magic.h). */
const HUGETLBFS = 0x9584_58f6;

export const HOST_HARDWARE: HostHardware = {
  sys: '/sys',
  dev: '/dev',
  pageBytes: async (path) => {
    const found = await orAbsent(statfs(path));
    return found?.type === HUGETLBFS ? found.bsize : undefined;
  },
};

/** The trimmed text of a file of sysfs; undefined when it does not exist. */
export async function readAttribute(path: string): Promise<string | undefined> {
  return (await orAbsent(readFile(path, 'latin1')))?.trim();
}

/** Names in a folder of sysfs; none when it does not exist. */
export async function readNames(path: string): Promise<string[]> {
  return ((await orAbsent(readdir(path))) ?? []).sort();
}

/** Last part of a link's target; undefined when there is no link. */
export async function linkName(path: string): Promise<string | undefined> {
  const target = await orAbsent(readlink(path));
  return target === undefined ? undefined : basename(target);
}

/** Whether this user may read and write a device; undefined when it does not exist. */
export async function isUsable({ dev }: HostHardware, name: string): Promise<boolean | undefined> {
  try {
    await access(join(dev, name), constants.R_OK | constants.W_OK);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : false;
  }
}

async function orAbsent<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

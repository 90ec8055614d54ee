import { fstatSync } from 'node:fs';
import { constants, open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VmmError } from '../errors.ts';

const GIB = 1024 ** 3;
/** Room for the shared disk, logs and a guest's first writes. */
export const MIN_FREE_BYTES: number = 1024 ** 3;

/** Makes the data disk of a new machine: a file without blocks, which grows as the guest writes. */
export async function makeDataDisk(path: string, gib: number): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.truncate(gib * GIB);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Refuses a size that would cut data off. @throws VmmError `bad_option` */
export function requireGrowth(before: number, wanted: number): void {
  if (wanted >= before) return;
  throw new VmmError(
    'bad_option',
    `The data disk cannot shrink: set its size to ${before} GiB or more, or give up its data with deploy --delete-data`,
    { expected: `at least ${before} GiB`, found: `${wanted} GiB` },
  );
}

/**
 * Checks the data disk of a machine that is there: a regular file, and as large as it was at least.
 *
 * @throws VmmError `damaged`
 */
export async function checkDataDisk(path: string, gib: number): Promise<void> {
  await withDisk(path, constants.O_RDONLY, async (bytes) => {
    if (bytes >= gib * GIB) return;
    throw new VmmError(
      'damaged',
      `The data disk ${path} is smaller than before: put the whole file back, or give up its data with deploy --delete-data`,
      { expected: `at least ${gib * GIB} bytes`, found: `${bytes} bytes` },
    );
  });
}

/** Makes the data disk larger; never smaller. */
export async function growDataDisk(path: string, gib: number): Promise<void> {
  await withDisk(path, constants.O_RDWR, async (bytes, truncate) => {
    if (bytes < gib * GIB) await truncate(gib * GIB);
  });
}

/** @throws VmmError `no_space` when the file system of `folder`, which may not exist yet, is nearly full */
export async function requireSpace(folder: string): Promise<void> {
  const free = await freeBytes(folder);
  if (free >= MIN_FREE_BYTES) return;
  throw new VmmError(
    'no_space',
    `${folder} has too little room for a machine: free some space, or move the folder of machines (run_path)`,
    {
      expected: `at least ${MIN_FREE_BYTES} bytes`,
      found: `${free} bytes`,
    },
  );
}

/** Bytes that this user may still write where the folder is, or will be. */
export async function freeBytes(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    const parent = dirname(folder);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === folder) throw error;
    return await freeBytes(parent);
  }
}

async function withDisk(
  path: string,
  access: number,
  use: (bytes: number, truncate: (bytes: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path, access | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw new VmmError(
      'damaged',
      `The data disk ${path} cannot be opened (${(cause as NodeJS.ErrnoException).code ?? 'unknown'}): put it back, or give up its data with deploy --delete-data`,
      { cause },
    );
  }
  try {
    const status = fstatSync(file.fd);
    if (!status.isFile()) throw new VmmError('damaged', `The data disk ${path} is no regular file`);
    await use(status.size, (bytes) => file.truncate(bytes));
  } finally {
    await file.close();
  }
}

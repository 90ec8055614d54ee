import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { utf8Text } from '@dstack-cloud/encoding';
import type { Logger } from '../log.ts';

const MAX_SETTINGS = 1024 * 1024;
const CONTAINER_ID = /^[0-9a-f]{64}$/;
/** What Docker starts by itself from these folders has no restart policy: services of a swarm, managed plugins. */
const SELF_STARTING = ['swarm', 'plugins'];

/** Where Docker keeps its data. */
export function dockerRoot(dataDir: string): string {
  return join(dataDir, 'docker');
}

/** Containers that an earlier boot left, whatever their names: Docker loads every folder. */
export async function leftContainers(root: string): Promise<readonly string[]> {
  return await readdir(join(root, 'containers')).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}

/**
 * Takes away from Docker's data all that would start without being asked, before Docker starts: an earlier application may
 * have left it, and only what this boot measured may run. A container whose settings cannot be changed is removed; its
 * volumes stay.
 */
export async function disarmDocker(root: string, log: Logger): Promise<void> {
  // An application that could write here may have left links: nothing behind one is read, changed or removed.
  for (const path of [root, join(root, 'containers')]) {
    const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    if (found !== undefined && !found.isDirectory()) await rm(path);
  }
  for (const name of SELF_STARTING) await rm(join(root, name), { recursive: true, force: true });
  for (const name of await leftContainers(root)) {
    const folder = join(root, 'containers', name);
    try {
      if (!CONTAINER_ID.test(name) || !(await lstat(folder)).isDirectory())
        throw new Error('its name or kind is not that of a container');
      await disarmContainer(join(folder, 'hostconfig.json'));
    } catch {
      // What is wrong stays here: the host reads this log, and errors quote what they could not read.
      log.warn({ container: name.slice(0, 12) }, 'Removing a container whose settings cannot be changed');
      await rm(folder, { recursive: true, force: true });
    }
  }
}

async function disarmContainer(file: string): Promise<void> {
  const settings: unknown = JSON.parse(
    utf8Text(await readFileBounded(file, MAX_SETTINGS, { noFollow: true })),
  );
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings))
    throw new Error('its settings are no object');
  const { RestartPolicy: _, ...others } = settings as Record<string, unknown>;
  // Docker takes names of members in any case, and the last one counts.
  const policy = { Name: 'no', MaximumRetryCount: 0 };
  await writeFileAtomic(file, JSON.stringify({ ...others, RestartPolicy: policy }));
}

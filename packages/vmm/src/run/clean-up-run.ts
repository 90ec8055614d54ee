import { removeBootSecrets } from '@dstack-cloud/app';
import { VmmError } from '../errors.ts';
import { removeRunFolders } from '../folder/run-folder.ts';
import { type CvmManifest, readManifest } from '../manifest/manifest.ts';
import { cvmPaths } from '../manifest/paths.ts';
import { endMachineContainers } from '../process/machine-containers.ts';

/**
 * Removes what a run of a machine leaves when its supervisor could not: containers, sockets, and what the boot decrypted.
 * Nothing of it may run any more.
 *
 * @param runFolder as the state names it; removed only if it proves to be this machine's
 * @returns the number of containers
 */
export async function cleanUpRun(dir: string, runFolder: string | null): Promise<number> {
  const paths = cvmPaths(dir);
  const manifest = await manifestIfReadable(dir);
  const containers = await endMachineContainers(paths, manifest);
  removeRunFolders({ id: manifest?.id, dir }, runFolder);
  removeBootSecrets(paths.work);
  return containers;
}

async function manifestIfReadable(dir: string): Promise<CvmManifest | undefined> {
  try {
    return await readManifest(dir);
  } catch (error) {
    if (error instanceof VmmError) return undefined;
    throw error;
  }
}

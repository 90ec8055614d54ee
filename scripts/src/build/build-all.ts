import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { buildContracts } from '@dstack-cloud/contracts';
import { buildImagePrograms } from './build-image-programs.ts';
import { withBuildLock } from './build-lock.ts';
import { buildVerifierPage } from './build-verifier-page.ts';
import { bundlePrograms } from './bundle-programs.ts';
import {
  binDirectory,
  containersDirectory,
  distDirectory,
  enclaveDirectory,
  guestDirectory,
  nitroHostDirectory,
  repository,
  verifierPageDirectory,
} from './paths.ts';
import {
  CONTAINER_PROGRAMS,
  ENCLAVE_PROGRAMS,
  IMAGE_PROGRAMS,
  NITRO_HOST_PROGRAMS,
  PROGRAMS,
} from './programs.ts';

export interface BuildResult {
  readonly directory: string;
  readonly programs: readonly string[];
  /** Folder of the contract artifacts. */
  readonly contracts: string;
  /** Folder of the verifier's page and ES module. */
  readonly verifierPage: string;
  /** True when nothing had to be written. */
  readonly fresh: boolean;
  readonly ms: number;
}

/**
 * Builds every program and contract that exists, and the verifier's page. Two builds at once wait for each other, so that two demos
 * may start side by side.
 */
export async function buildAll(options: { force?: boolean } = {}): Promise<BuildResult> {
  const started = performance.now();
  await mkdir(distDirectory, { recursive: true });
  return await withBuildLock(distDirectory, async () => {
    const contracts = await buildContracts();
    const bundles = await bundlePrograms({
      repository,
      outDirectory: binDirectory,
      force: options.force === true,
      keepOldChunks: true,
      sources: PROGRAMS,
    });
    const force = options.force === true;
    const folders: [string, Readonly<Record<string, string>>][] = [
      [guestDirectory, IMAGE_PROGRAMS],
      [enclaveDirectory, sourcesOf(ENCLAVE_PROGRAMS)],
      [nitroHostDirectory, sourcesOf(NITRO_HOST_PROGRAMS)],
    ];
    for (const name of CONTAINER_PROGRAMS)
      folders.push([join(containersDirectory, name), { [name]: PROGRAMS[name]! }]);
    let images = true;
    for (const [outDirectory, sources] of folders)
      images = (await buildImagePrograms({ repository, outDirectory, force, sources })).fresh && images;
    // Not among the inputs of a bundle, so copied each time.
    await cp(join(repository, 'packages/vsock/units'), join(nitroHostDirectory, 'units'), {
      recursive: true,
    });
    const page = await buildVerifierPage({
      repository,
      outDirectory: verifierPageDirectory,
      force: options.force === true,
    });
    return {
      directory: binDirectory,
      programs: bundles.programs,
      contracts: contracts.directory,
      verifierPage: verifierPageDirectory,
      fresh: bundles.fresh && images && page.fresh && !contracts.compiled,
      ms: Math.round(performance.now() - started),
    };
  });
}

function sourcesOf(names: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(names.map((name) => [name, PROGRAMS[name]!]));
}

import { randomUUID } from 'node:crypto';
import { join, resolve } from 'node:path';
import { parseAppCompose } from '@dstack-cloud/app';
import { bootFor, type CreateOptions, type VmOptions } from '@dstack-cloud/vmm';
import { expandHome } from '../../context.ts';
import { isEnclave } from '../../enclave/prepare-enclave.ts';
import { findImage } from '../../image/find-image.ts';
import { localDriver } from '../../project/local-driver.ts';
import type { Prepared } from '../../project/shared-files.ts';
import type { Place } from '../platform.ts';
import { imagePaths } from './check-images.ts';
import { enclaveOptions } from './enclave-options.ts';
import { hostEngine } from './host-engine.ts';
import { runPath } from './paths.ts';

/** What the machine of a project is made from. */
export async function createOptions(place: Place, prepared: Prepared, dir: string): Promise<CreateOptions> {
  if (isEnclave(prepared)) return enclaveOptions(place, prepared, dir);
  const { context, config, project } = place;
  const { local_config: local, name } = project.config;
  const rootCa = config.attestation.root_ca.tdx;
  return {
    dir,
    name: local.instance_name || `dstack-${name}`,
    appId: prepared.appId,
    image: project.config.os_image,
    shared: prepared.files,
    images: await imagePaths(place),
    seedFile: resolve(expandHome(context, config.local.seed_file)),
    rootCaTdx: rootCa === undefined ? null : resolve(expandHome(context, rootCa)),
    pccsUrl: config.services.pccs_url || null,
    ports: [{ host: local.port, guest: local.container_port }],
    agentPort: local.agent_port,
    owner: config.local.owner ?? null,
    project: project.directory,
    ...(localDriver(config, project) === 'vm'
      ? { vm: await vmOptions(place, prepared) }
      : await engineOptions(place)),
  };
}

async function engineOptions(place: Place): Promise<Pick<CreateOptions, 'engine' | 'engineEnv' | 'env'>> {
  const { engine, env: engineEnv } = await hostEngine(place);
  // The one that was found: another one at a later start would not have the machine's data.
  return { engine: engine.name, engineEnv, env: place.config.local.env };
}

async function vmOptions({ context, config, project }: Place, { files }: Prepared): Promise<VmOptions> {
  const { keyProvider } = parseAppCompose(files['app-compose.json'] ?? new Uint8Array());
  const { local_config: local, os_image } = project.config;
  return {
    image_folder: (await findImage(context, os_image)).folder,
    vcpu: local.cpus,
    memory: local.memory,
    disk_size: local.data_size,
    acceleration: local.acceleration,
    boot_timeout: local.boot_timeout,
    qemu: config.local.qemu,
    docker_registry: config.local.docker_registry || null,
    ...bootFor(keyProvider),
  };
}

/** Folder of one new machine. */
export function newDirectory({ context, config }: Place): string {
  return join(runPath(context, config), randomUUID());
}

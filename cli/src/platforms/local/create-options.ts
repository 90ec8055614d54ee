import { randomUUID } from 'node:crypto';
import { join, resolve } from 'node:path';
import type { CreateOptions } from '@dstack-cloud/vmm';
import { expandHome } from '../../context.ts';
import type { Prepared } from '../../project/shared-files.ts';
import type { Place } from '../platform.ts';
import { hostEngine } from './host-engine.ts';
import { runPath } from './paths.ts';

/** What the machine of a project is made from. */
export async function createOptions(place: Place, prepared: Prepared, dir: string): Promise<CreateOptions> {
  const { context, config, project } = place;
  const { local_config: local, name } = project.config;
  const { engine, env: engineEnv } = await hostEngine(place);
  const rootCa = config.attestation.root_ca.tdx;
  return {
    dir,
    name: local.instance_name || `dstack-${name}`,
    appId: prepared.appId,
    image: project.config.os_image,
    shared: prepared.files,
    seedFile: resolve(expandHome(context, config.local.seed_file)),
    rootCaTdx: rootCa === undefined ? null : resolve(expandHome(context, rootCa)),
    pccsUrl: config.services.pccs_url || null,
    ports: [{ host: local.port, guest: local.container_port }],
    agentPort: local.agent_port,
    // The one that was found: another one at a later start would not have the machine's data.
    engine: engine.name,
    engineEnv,
    env: config.local.env,
    owner: config.local.owner ?? null,
    project: project.directory,
  };
}

/** Folder of one new machine. */
export function newDirectory({ context, config }: Place): string {
  return join(runPath(context, config), randomUUID());
}

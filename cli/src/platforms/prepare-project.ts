import type { GlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import type { Project } from '../project/app-config.ts';
import { type Prepared, prepareShared } from '../project/shared-files.ts';

/** What a deployment of the project is made from, measured, whatever its platform. An enclave image is built for it. */
export async function prepareProject(
  context: Context,
  config: GlobalConfig,
  project: Project,
): Promise<Prepared> {
  if (project.config.platform !== 'nitro') return await prepareShared(context, config, project);
  const { prepareEnclave } = await import('../enclave/prepare-enclave.ts');
  return await prepareEnclave(context, config, project);
}

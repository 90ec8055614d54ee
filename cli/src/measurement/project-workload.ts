import { vmImage } from '@dstack-cloud/vmm';
import type { Hex } from 'viem';
import type { GlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { findImage } from '../image/find-image.ts';
import { isSimulated as isSimulatedProject } from '../platforms/is-simulated.ts';
import { prepareProject } from '../platforms/prepare-project.ts';
import type { Project } from '../project/app-config.ts';
import { localDriver } from '../project/local-driver.ts';
import type { Prepared } from '../project/shared-files.ts';
import type { Workload, WorkloadOptions } from './workload.ts';

/** What a deployment of this project would measure; its device is not known before the machine runs. */
export async function workloadOfProject(
  context: Context,
  config: GlobalConfig,
  project: Project,
  { role }: Pick<WorkloadOptions, 'role'>,
): Promise<Workload> {
  if (role === 'kms') {
    throw new CliError('refused', 'The measurements of a key service come from its running machine', {
      expected: 'the URL of its guest agent or of the KMS, or evidence in a file',
      found: `the project ${project.directory}`,
      hint: 'dstack-cloud measurement register --role kms URL',
    });
  }
  return workloadOfPrepared(context, config, project, await prepareProject(context, config, project));
}

/** The same, of what was prepared already. */
export async function workloadOfPrepared(
  context: Context,
  config: GlobalConfig,
  project: Project,
  { appId, appPolicyHash, osImageHash }: Prepared,
): Promise<Workload> {
  const { key_provider } = project.config;
  if (key_provider !== 'kms') {
    throw new CliError('refused', `This project takes no keys from a KMS (key_provider is ${key_provider})`, {
      hint: 'There is nothing to register for it',
    });
  }
  const hash = (value: string): Hex => `0x${value}`;
  return {
    ...{ role: 'app' as const, source: `the project ${project.directory}`, appId: hash(appId) },
    composeHash: hash(appPolicyHash),
    osImageHash: hash(osImageHash),
    ...{ mrAggregated: undefined, deviceId: undefined, tcbStatus: undefined, advisoryIds: [] },
    simulated: await isSimulated(context, config, project),
  };
}

/** A process of this host, or an image that takes a simulated TEE. */
async function isSimulated(context: Context, config: GlobalConfig, project: Project): Promise<boolean> {
  const { platform, os_image } = project.config;
  if (!isSimulatedProject(project)) return false;
  if (platform === 'nitro') return true;
  if (localDriver(config, project) !== 'vm') return true;
  const { folder } = await findImage(context, os_image);
  return (await vmImage(folder, 'direct')).isDev;
}

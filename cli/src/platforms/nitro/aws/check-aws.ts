import { open } from 'node:fs/promises';
import { DescribeInstanceTypesCommand, type InstanceTypeInfo } from '@aws-sdk/client-ec2';
import { isEnclave, type PreparedNitro } from '../../../enclave/prepare-enclave.ts';
import { CliError } from '../../../errors.ts';
import type { Prepared } from '../../../project/shared-files.ts';
import type { ProjectState } from '../../../project/state-file.ts';
import type { CheckOptions, Place } from '../../platform.ts';
import { refuseEnvironment } from '../refuse-environment.ts';
import { explainAws, unless } from './aws-error.ts';
import { type AwsPlace, openAws } from './aws-place.ts';
import { awsSettings } from './aws-settings.ts';
import { requireBucket } from './bucket.ts';
import { hostPrograms } from './host-programs.ts';
import { parentImage } from './launch.ts';
import { findNetwork } from './network.ts';
import { findInstance } from './own-instance.ts';
import { proxyText } from './release.ts';

/** What the parent keeps for itself, in MiB. */
const PARENT_MEMORY = 1024;

/**
 * Refuses what this project cannot get on AWS, and what its host would refuse; nothing is made before.
 *
 * @throws CliError
 */
export async function checkAws(
  place: Place,
  prepared: Prepared,
  before: ProjectState | undefined,
  options: CheckOptions = {},
): Promise<void> {
  const enclave = requireEnclave(prepared);
  await refuseEnvironment(place);
  await requireX86(enclave.enclave.file);
  proxyText(place, enclave);
  await hostPrograms();
  const settings = awsSettings(place);
  if (settings.nitro.access === 'ssh') {
    const { requireSsh } = await import('./ssh/reach-by-ssh.ts');
    await requireSsh({ place, settings });
  }
  const aws = await openAws(place);
  requireSameRegion(aws, before);
  const live = await findInstance(aws);
  const launches = live === undefined || options.recreate === true;
  const type = launches ? aws.settings.nitro.instance_type : (live?.InstanceType ?? '');
  requireRoom(aws, await typeInfo(aws, type));
  if (launches) {
    await parentImage(aws);
    await findNetwork(aws);
  } else if (live?.EnclaveOptions?.Enabled === false)
    throw new CliError('refused', `Instance ${live.InstanceId} was launched without support for enclaves`, {
      hint: 'It cannot be switched on later: deploy with --delete makes a new instance',
    });
  await requireBucket(aws);
}

/** What was prepared for platform nitro. */
export function requireEnclave(prepared: Prepared): PreparedNitro {
  if (isEnclave(prepared)) return prepared;
  throw new CliError('bad_app_json', 'Platform nitro runs enclave images, and none was prepared');
}

/** What is in another region would be out of sight. @throws CliError `exists` */
function requireSameRegion({ settings }: AwsPlace, before: ProjectState | undefined): void {
  const region = before?.region;
  if (region === undefined || region === settings.region || before?.status === 'REMOVED') return;
  throw new CliError('exists', `${before?.instance_name} is deployed in ${region}`, {
    expected: `region ${region}`,
    found: settings.region,
    hint: 'Set nitro_config.region back, or run dstack-cloud remove there first',
  });
}

async function typeInfo({ ec2, options, settings }: AwsPlace, type: string): Promise<InstanceTypeInfo> {
  try {
    const command = new DescribeInstanceTypesCommand({ InstanceTypes: [type as never] });
    const found = await unless(['InvalidInstanceType'], ec2.send(command, options));
    const info = found?.InstanceTypes?.[0];
    if (info !== undefined) return info;
  } catch (error) {
    throw explainAws(`Instance type ${type}`, error);
  }
  throw new CliError('bad_app_json', `Region ${settings.region} has no instance type ${type}`, {
    hint: 'Set nitro_config.instance_type in app.json, such as c5.xlarge',
  });
}

/** The rules of the allocator: whole cores, and something is left to the parent. @throws CliError */
function requireRoom({ settings: { nitro } }: AwsPlace, info: InstanceTypeInfo): void {
  const { InstanceType: type, NitroEnclavesSupport: support, VCpuInfo: cpus, MemoryInfo: memory } = info;
  const bad = (message: string, expected: string, found: string): CliError =>
    new CliError('bad_app_json', message, {
      ...{ expected, found },
      hint: 'Change nitro_config.instance_type, cpu_count or memory_mib in app.json',
    });
  if (support === 'unsupported')
    throw bad(
      `Instances of type ${type} run no enclaves`,
      'a type with NitroEnclavesSupport, such as c5.xlarge',
      `${type}`,
    );
  const { ProcessorInfo: processor } = info;
  if (processor?.SupportedArchitectures?.includes('x86_64') === false)
    throw bad(
      `Instances of type ${type} have another processor than the enclave image`,
      'x86_64',
      processor.SupportedArchitectures.join(', '),
    );
  const threads = cpus?.DefaultThreadsPerCore ?? 1;
  const total = cpus?.DefaultVCpus ?? 0;
  const most = total - threads;
  if (nitro.cpu_count % threads !== 0)
    throw bad(
      'An enclave has whole cores',
      `nitro_config.cpu_count a multiple of ${threads} on ${type}`,
      `${nitro.cpu_count}`,
    );
  if (total > 0 && nitro.cpu_count > most)
    throw bad(
      `A ${type} has ${total} CPUs, and its first core stays with the parent`,
      `nitro_config.cpu_count of at most ${most}`,
      `${nitro.cpu_count}`,
    );
  const size = memory?.SizeInMiB ?? 0;
  if (size > 0 && nitro.memory_mib > size - PARENT_MEMORY)
    throw bad(
      `A ${type} has ${size} MiB, and the parent needs some of it`,
      `nitro_config.memory_mib of at most ${size - PARENT_MEMORY}`,
      `${nitro.memory_mib}`,
    );
}

/** The image says for which processor it is. @throws CliError */
async function requireX86(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    const start = Buffer.alloc(8);
    await file.read(start, 0, start.length, 0);
    if (start.readUInt16BE(6) === 0) return;
  } finally {
    await file.close();
  }
  throw new CliError('bad_app_json', `${path} is for aarch64: platform nitro deploys to x86_64 instances`, {
    expected: 'an enclave image for x86_64',
    found: 'aarch64',
  });
}

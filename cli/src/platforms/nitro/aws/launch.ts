import { randomUUID } from 'node:crypto';
import { type Instance, RunInstancesCommand, type RunInstancesCommandInput } from '@aws-sdk/client-ec2';
import { GetParameterCommand } from '@aws-sdk/client-ssm';
import { CliError } from '../../../errors.ts';
import { explainAws, hasCode } from './aws-error.ts';
import type { AwsPlace } from './aws-place.ts';
import { ensureProfile } from './instance-profile.ts';
import { ensureSecurityGroup, findNetwork } from './network.ts';
import { instanceById } from './own-instance.ts';
import { APP_ID, ownTags } from './tags.ts';
import { waitUntil } from './wait-until.ts';

/** Name by which AWS says which image of Amazon Linux 2023 is the newest. */
const NEWEST_AMI = '/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64';
const ROOT_DEVICE = '/dev/xvda';
/** New roles and profiles are known everywhere only after some seconds. */
const PROFILE_MS = 2 * 60_000;
const RUNNING_MS = 10 * 60_000;

/** The image of the parent instance. @throws CliError */
export async function parentImage({ ssm, options, settings }: AwsPlace): Promise<string> {
  if (settings.nitro.ami !== '') return settings.nitro.ami;
  try {
    const { Parameter } = await ssm.send(new GetParameterCommand({ Name: NEWEST_AMI }), options);
    if (Parameter?.Value !== undefined) return Parameter.Value;
  } catch (error) {
    throw explainAws('The newest image of Amazon Linux 2023', error);
  }
  throw new CliError('cloud_refused', `Region ${settings.region} names no image of Amazon Linux 2023`, {
    hint: 'Set nitro_config.ami',
  });
}

/**
 * Launches the parent instance. A request that is repeated with the same token, by a run of this program that was
 * interrupted, launches none beside the first.
 */
export async function launch(aws: AwsPlace, appId: string, token: string): Promise<Instance> {
  const { ec2, options, settings, place } = aws;
  const { nitro } = settings;
  const network = await findNetwork(aws);
  const groups = [await ensureSecurityGroup(aws, network), ...nitro.security_group_ids];
  const profile =
    nitro.access === 'ssh' && nitro.instance_profile === '' ? undefined : await ensureProfile(aws);
  const tags = [...ownTags(settings), { Key: APP_ID, Value: appId }];
  const input: RunInstancesCommandInput = {
    ...{ ClientToken: token, MinCount: 1, MaxCount: 1 },
    ...{ ImageId: await parentImage(aws), InstanceType: nitro.instance_type as never },
    ...{ SubnetId: network.subnet, SecurityGroupIds: groups },
    ...(profile === undefined ? {} : { IamInstanceProfile: { Name: profile } }),
    ...(nitro.key_name === '' ? {} : { KeyName: nitro.key_name }),
    // It cannot be switched on later.
    EnclaveOptions: { Enabled: true },
    // One hop: containers and forwarded requests do not get the role's credentials.
    MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
    BlockDeviceMappings: [
      {
        DeviceName: ROOT_DEVICE,
        Ebs: { VolumeSize: nitro.ebs_size, VolumeType: 'gp3', Encrypted: true, DeleteOnTermination: true },
      },
    ],
    TagSpecifications: (['instance', 'volume', 'network-interface'] as const).map((ResourceType) => ({
      ResourceType,
      Tags: tags,
    })),
  };
  place.context.info(
    `Launching instance ${settings.instance} (${nitro.instance_type} in ${settings.region})`,
  );
  try {
    const { Instances } = await waitUntil(place.context, 'The new instance profile', PROFILE_MS, async () => {
      try {
        return await ec2.send(new RunInstancesCommand(input), options);
      } catch (error) {
        const isNew =
          hasCode(error, 'InvalidParameterValue') &&
          /iamInstanceProfile|IAM Instance Profile/i.test(String(error));
        if (isNew && nitro.instance_profile === '') return undefined;
        throw error;
      }
    });
    const [made] = Instances ?? [];
    if (made?.InstanceId !== undefined) return made;
  } catch (error) {
    throw explainAws(`Instance ${settings.instance}`, error);
  }
  throw new CliError('cloud_refused', 'AWS launched no instance and does not say why');
}

/** A token for one launch. */
export function launchToken(): string {
  return randomUUID();
}

/** Waits until the instance runs. @throws CliError `cloud_refused` when it ends instead */
export async function untilRunning(aws: AwsPlace, id: string): Promise<Instance> {
  return await waitUntil(aws.place.context, `Instance ${id} does not run`, RUNNING_MS, async () => {
    const live = await instanceById(aws, id);
    const state = live?.State?.Name;
    if (state === 'running') return live;
    if (live === undefined || (state !== 'terminated' && state !== 'shutting-down')) return undefined;
    throw new CliError('cloud_refused', `Instance ${id} was terminated while it was made`, {
      found: live.StateReason?.Message ?? String(state),
      hint: 'Run dstack-cloud deploy again',
    });
  });
}

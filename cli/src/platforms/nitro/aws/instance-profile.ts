import {
  AddRoleToInstanceProfileCommand,
  AttachRolePolicyCommand,
  CreateInstanceProfileCommand,
  CreateRoleCommand,
  DeleteInstanceProfileCommand,
  DeleteRoleCommand,
  DetachRolePolicyCommand,
  GetInstanceProfileCommand,
  GetRoleCommand,
  RemoveRoleFromInstanceProfileCommand,
} from '@aws-sdk/client-iam';
import { CliError } from '../../../errors.ts';
import { explainAws, unless } from './aws-error.ts';
import type { AwsPlace } from './aws-place.ts';
import type { AwsSettings } from './aws-settings.ts';
import { isOwn, ownTags, type Tag } from './tags.ts';

/** What the agent of SSM needs; nothing else of the account is reached with it. */
const SSM_POLICY = 'arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore';
const TRUST = JSON.stringify({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }],
});
const ABSENT = ['NoSuchEntityException', 'NoSuchEntity'];
const THERE = ['EntityAlreadyExistsException', 'EntityAlreadyExists'];

/** Name of the project's role and instance profile: names are of a whole account. */
function profileName({ instance, owner }: AwsSettings): string {
  return `${instance}-${owner.slice(0, 8)}`;
}

/**
 * The instance profile by which the parent instance takes commands: the one that is named, or the project's own, which is
 * made unless it is there.
 */
export async function ensureProfile(aws: AwsPlace): Promise<string> {
  const { iam, options, settings, place } = aws;
  if (settings.nitro.instance_profile !== '') return settings.nitro.instance_profile;
  const name = profileName(settings);
  try {
    const role = await findRole(aws, name);
    if (role === undefined) {
      const command = new CreateRoleCommand({
        RoleName: name,
        AssumeRolePolicyDocument: TRUST,
        Description: `Parent instance ${settings.instance} of an enclave (dstack-cloud)`,
        Tags: ownTags(settings),
      });
      await unless(THERE, iam.send(command, options));
      place.context.info(`Made role ${name}, which lets AWS Systems Manager run commands on the instance`);
    }
    await iam.send(new AttachRolePolicyCommand({ RoleName: name, PolicyArn: SSM_POLICY }), options);
    const profile = await findProfile(aws, name);
    if (profile === undefined) {
      const command = new CreateInstanceProfileCommand({
        InstanceProfileName: name,
        Tags: ownTags(settings),
      });
      await unless(THERE, iam.send(command, options));
    }
    if (profile?.roles.includes(name) !== true) {
      const command = new AddRoleToInstanceProfileCommand({ InstanceProfileName: name, RoleName: name });
      // A profile has one role: the limit says that it is there.
      await unless([...THERE, 'LimitExceededException', 'LimitExceeded'], iam.send(command, options));
    }
    return name;
  } catch (error) {
    throw explainAws(`Role ${name}`, error);
  }
}

/** Removes the project's role and profile. */
export async function removeProfile(aws: AwsPlace): Promise<void> {
  const { iam, options, settings } = aws;
  const name = profileName(settings);
  const profile = await findProfile(aws, name);
  if (profile !== undefined) {
    for (const role of profile.roles)
      await unless(
        ABSENT,
        iam.send(
          new RemoveRoleFromInstanceProfileCommand({ InstanceProfileName: name, RoleName: role }),
          options,
        ),
      );
    await unless(ABSENT, iam.send(new DeleteInstanceProfileCommand({ InstanceProfileName: name }), options));
  }
  if ((await findRole(aws, name)) === undefined) return;
  const detach = new DetachRolePolicyCommand({ RoleName: name, PolicyArn: SSM_POLICY });
  await unless(ABSENT, iam.send(detach, options));
  await unless(ABSENT, iam.send(new DeleteRoleCommand({ RoleName: name }), options));
}

async function findRole(aws: AwsPlace, name: string): Promise<string | undefined> {
  const asked = aws.iam.send(new GetRoleCommand({ RoleName: name }), aws.options);
  const role = (await unless(ABSENT, asked))?.Role;
  if (role !== undefined) requireOwn(aws, `role ${name}`, role.Tags);
  return role?.RoleName;
}

async function findProfile(
  aws: AwsPlace,
  name: string,
): Promise<{ readonly roles: readonly string[] } | undefined> {
  const asked = aws.iam.send(new GetInstanceProfileCommand({ InstanceProfileName: name }), aws.options);
  const profile = (await unless(ABSENT, asked))?.InstanceProfile;
  if (profile === undefined) return undefined;
  requireOwn(aws, `instance profile ${name}`, profile.Tags);
  return {
    roles: (profile.Roles ?? []).flatMap(({ RoleName }) => (RoleName === undefined ? [] : [RoleName])),
  };
}

/** Nothing is used or removed that its tags do not call this project's. @throws CliError `not_owner` */
function requireOwn(
  { settings, place, account }: AwsPlace,
  what: string,
  tags: readonly Tag[] | undefined,
): void {
  if (isOwn(settings, tags)) return;
  throw new CliError('not_owner', `There is another ${what} in account ${account}`, {
    expected: `tag dstack:owner=${settings.owner}`,
    hint: `Set another nitro_config.instance_name in ${place.project.path}, or remove that ${what} yourself`,
  });
}

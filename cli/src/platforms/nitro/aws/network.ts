import {
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  type SecurityGroup,
} from '@aws-sdk/client-ec2';
import { CliError } from '../../../errors.ts';
import { explainAws, hasCode, unless } from './aws-error.ts';
import type { AwsPlace } from './aws-place.ts';
import { isOwn, OWNER, ownTags } from './tags.ts';

const GONE = 'InvalidGroup.NotFound';

/** Where the parent instance is: the subnet that is named, or one of the default VPC that gives public addresses. */
export interface Network {
  readonly subnet: string;
  readonly vpc: string;
}

/** @throws CliError `file_missing`: there is none */
export async function findNetwork({ ec2, options, settings }: AwsPlace): Promise<Network> {
  const { subnet_id: named } = settings.nitro;
  try {
    if (named !== '') {
      const { Subnets } = await ec2.send(new DescribeSubnetsCommand({ SubnetIds: [named] }), options);
      return { subnet: named, vpc: Subnets?.[0]?.VpcId ?? '' };
    }
    const isDefault = { Name: 'is-default', Values: ['true'] };
    const { Vpcs } = await ec2.send(new DescribeVpcsCommand({ Filters: [isDefault] }), options);
    const vpc = Vpcs?.[0]?.VpcId;
    if (vpc !== undefined) {
      const inVpc = { Name: 'vpc-id', Values: [vpc] };
      const { Subnets = [] } = await ec2.send(new DescribeSubnetsCommand({ Filters: [inVpc] }), options);
      const usable = Subnets.filter(({ MapPublicIpOnLaunch }) => MapPublicIpOnLaunch === true);
      const [first] = usable.sort((a, b) =>
        (a.AvailabilityZone ?? '') < (b.AvailabilityZone ?? '') ? -1 : 1,
      );
      if (first?.SubnetId !== undefined) return { subnet: first.SubnetId, vpc };
    }
  } catch (error) {
    throw explainAws(named === '' ? 'The default VPC' : `Subnet ${named}`, error);
  }
  throw new CliError('file_missing', `Region ${settings.region} has no default VPC with a public subnet`, {
    expected: 'a subnet whose instances reach SSM, S3 and the KMS',
    hint: 'Set nitro_config.subnet_id (and make a VPC first), or run aws ec2 create-default-vpc',
  });
}

/** The project's security group; nothing may come in until `fw allow` says so. */
export async function findSecurityGroup(aws: AwsPlace): Promise<SecurityGroup | undefined> {
  const { ec2, options, settings } = aws;
  const Filters = [{ Name: `tag:${OWNER}`, Values: [settings.owner] }];
  const { SecurityGroups = [] } = await ec2.send(new DescribeSecurityGroupsCommand({ Filters }), options);
  return SecurityGroups.find(({ Tags }) => isOwn(settings, Tags));
}

/** Makes the project's security group unless it is there. @returns its id */
export async function ensureSecurityGroup(aws: AwsPlace, { vpc }: Network): Promise<string> {
  const { ec2, options, settings, place } = aws;
  try {
    const known = await findSecurityGroup(aws);
    if (known?.GroupId !== undefined) return known.GroupId;
    const command = new CreateSecurityGroupCommand({
      // Names are of one VPC, and another project may have an instance of the same name.
      GroupName: `${settings.instance}-${settings.owner.slice(0, 8)}`,
      Description: `Parent instance ${settings.instance} (dstack-cloud)`,
      VpcId: vpc,
      TagSpecifications: [{ ResourceType: 'security-group', Tags: ownTags(settings) }],
    });
    const { GroupId } = await ec2.send(command, options);
    place.context.info(`Made security group ${GroupId}, which lets nothing in`);
    return GroupId ?? '';
  } catch (error) {
    throw explainAws('The security group', error);
  }
}

/** Removes it. An instance that was just terminated may hold it for a moment: then false. */
export async function removeSecurityGroup(aws: AwsPlace): Promise<boolean> {
  const { ec2, options } = aws;
  const known = await findSecurityGroup(aws);
  if (known?.GroupId === undefined) return true;
  try {
    const command = new DeleteSecurityGroupCommand({ GroupId: known.GroupId });
    await unless([GONE], ec2.send(command, options));
    return true;
  } catch (error) {
    if (hasCode(error, 'DependencyViolation')) return false;
    throw error;
  }
}

import {
  AuthorizeSecurityGroupIngressCommand,
  type IpPermission,
  RevokeSecurityGroupIngressCommand,
} from '@aws-sdk/client-ec2';
import { CliError } from '../../../errors.ts';
import { type Port, parseSource } from '../../cloud/port.ts';
import type { Firewall } from '../../platform.ts';
import { explainAws, unless } from './aws-error.ts';
import { type AwsPlace, openAws } from './aws-place.ts';
import { awsSettings } from './aws-settings.ts';
import { findSecurityGroup } from './network.ts';

const EVERYBODY = '0.0.0.0/0';

/** The project's security group. It only allows: what no rule allows is denied. */
export const awsFirewall: Firewall = {
  instance: (place) => awsSettings(place).instance,
  set: async (place, action, port, sources) => {
    const aws = await openAws(place);
    const group = await requireGroup(aws);
    const now = sourcesOf(group.permissions, port);
    if (action === 'deny') {
      if (sources.length > 0)
        throw new CliError('usage', 'A security group of AWS denies nobody in particular', {
          hint: `dstack-cloud fw allow ${port.number} -s CIDR names everybody who may come in; fw deny ${port.number} closes the port`,
        });
      await revoke(aws, group.id, port, now);
      return now.length === 0 ? 'unchanged' : 'changed';
    }
    const wanted = sources.length === 0 ? [EVERYBODY] : [...new Set(sources)].sort();
    const added = wanted.filter((one) => !now.includes(one));
    const gone = now.filter((one) => !wanted.includes(one));
    await authorize(aws, group.id, port, added);
    await revoke(aws, group.id, port, gone);
    if (added.length === 0 && gone.length === 0) return 'unchanged';
    return now.length === 0 ? 'made' : 'changed';
  },
  remove: async (place, port) => {
    const aws = await openAws(place);
    const group = await requireGroup(aws);
    const now = sourcesOf(group.permissions, port);
    await revoke(aws, group.id, port, now);
    return now.length === 0 ? 0 : 1;
  },
  list: async (place) => {
    const aws = await openAws(place);
    const { id, permissions } = await requireGroup(aws);
    return permissions.map((one) => ({
      name: id,
      action: 'allow',
      ports: [`${one.IpProtocol}/${one.FromPort}${one.FromPort === one.ToPort ? '' : `-${one.ToPort}`}`],
      sources: rangesOf(one),
    }));
  },
};

interface Group {
  readonly id: string;
  readonly permissions: readonly IpPermission[];
}

/** @throws CliError `not_deployed` */
async function requireGroup(aws: AwsPlace): Promise<Group> {
  const found = await findSecurityGroup(aws).catch((error: unknown) => {
    throw explainAws('The security group', error);
  });
  if (found?.GroupId !== undefined) return { id: found.GroupId, permissions: found.IpPermissions ?? [] };
  throw new CliError('not_deployed', `Region ${aws.settings.region} has no security group of this project`, {
    hint: 'Deploy first; the rules are of the security group that deploy makes',
  });
}

function rangesOf({ IpRanges = [], Ipv6Ranges = [] }: IpPermission): string[] {
  const all = [...IpRanges.map(({ CidrIp }) => CidrIp), ...Ipv6Ranges.map(({ CidrIpv6 }) => CidrIpv6)];
  return all.filter((one) => one !== undefined).sort();
}

function sourcesOf(permissions: readonly IpPermission[], { protocol, number }: Port): string[] {
  const own = permissions.filter(
    (one) => one.IpProtocol === protocol && one.FromPort === number && one.ToPort === number,
  );
  return own.flatMap(rangesOf);
}

function permission({ protocol, number }: Port, sources: readonly string[]): IpPermission[] {
  const v6 = sources.filter((one) => one.includes(':'));
  const v4 = sources.filter((one) => !one.includes(':'));
  return [
    {
      ...{ IpProtocol: protocol, FromPort: number, ToPort: number },
      ...(v4.length === 0 ? {} : { IpRanges: v4.map((CidrIp) => ({ CidrIp, Description: 'dstack-cloud' })) }),
      ...(v6.length === 0
        ? {}
        : { Ipv6Ranges: v6.map((CidrIpv6) => ({ CidrIpv6, Description: 'dstack-cloud' })) }),
    },
  ];
}

/** Opens the port of the SSH server for who is named, and closes it for all others. */
export async function allowSsh(aws: AwsPlace): Promise<void> {
  const { access, ssh_port, ssh_sources } = aws.settings.nitro;
  if (access !== 'ssh' || ssh_sources.length === 0) return;
  const port: Port = { protocol: 'tcp', number: ssh_port };
  const { id, permissions } = await requireGroup(aws);
  const [wanted, now] = [ssh_sources.map(parseSource), sourcesOf(permissions, port)];
  const added = wanted.filter((one) => !now.includes(one));
  const gone = now.filter((one) => !wanted.includes(one));
  await authorize(aws, id, port, added);
  await revoke(aws, id, port, gone);
}

async function authorize(
  { ec2, options }: AwsPlace,
  id: string,
  port: Port,
  sources: readonly string[],
): Promise<void> {
  if (sources.length === 0) return;
  const command = new AuthorizeSecurityGroupIngressCommand({
    GroupId: id,
    IpPermissions: permission(port, sources),
  });
  await unless(['InvalidPermission.Duplicate'], ec2.send(command, options)).catch((error: unknown) => {
    throw explainAws(`Port ${port.number}`, error);
  });
}

async function revoke(
  { ec2, options }: AwsPlace,
  id: string,
  port: Port,
  sources: readonly string[],
): Promise<void> {
  if (sources.length === 0) return;
  const command = new RevokeSecurityGroupIngressCommand({
    GroupId: id,
    IpPermissions: permission(port, sources),
  });
  await unless(['InvalidPermission.NotFound'], ec2.send(command, options)).catch((error: unknown) => {
    throw explainAws(`Port ${port.number}`, error);
  });
}

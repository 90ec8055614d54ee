import {
  DescribeInstanceInformationCommand,
  GetCommandInvocationCommand,
  SendCommandCommand,
} from '@aws-sdk/client-ssm';
import { CliError } from '../../../errors.ts';
import { explainAws, unless } from './aws-error.ts';
import type { AwsPlace } from './aws-place.ts';
import type { Ran } from './ran.ts';
import { waitUntil } from './wait-until.ts';

const DONE = ['Success', 'Failed', 'TimedOut', 'Cancelled'];

/** Waits until the agent of Systems Manager on the instance takes commands. @throws CliError `timed_out` */
export async function untilOnline(aws: AwsPlace, id: string, longestMs: number): Promise<void> {
  const { ssm, options, place } = aws;
  const Filters = [{ Key: 'InstanceIds', Values: [id] }];
  try {
    await waitUntil(place.context, `Instance ${id} does not take commands`, longestMs, async () => {
      const { InstanceInformationList = [] } = await ssm.send(
        new DescribeInstanceInformationCommand({ Filters }),
        options,
      );
      return InstanceInformationList.find(({ PingStatus }) => PingStatus === 'Online');
    });
  } catch (error) {
    if (error instanceof CliError && error.code === 'timed_out')
      throw new CliError('timed_out', error.message, {
        hint: 'Its subnet must reach AWS Systems Manager (a public address, or a NAT gateway), and nitro_config.instance_profile must have AmazonSSMManagedInstanceCore; then run the same command again',
      });
    throw explainAws(`Instance ${id}`, error);
  }
}

/** Runs a script as root on an instance, by AWS Systems Manager. */
export async function runBySsm(
  aws: AwsPlace,
  id: string,
  what: string,
  script: string,
  longestMs: number,
): Promise<Ran> {
  const { ssm, options, place } = aws;
  try {
    const { Command } = await ssm.send(
      new SendCommandCommand({
        ...{ DocumentName: 'AWS-RunShellScript', InstanceIds: [id], Comment: `dstack-cloud: ${what}` },
        Parameters: { commands: [script], executionTimeout: [String(longestMs / 1000)] },
      }),
      options,
    );
    const CommandId = Command?.CommandId ?? '';
    const ended = await waitUntil(place.context, what, longestMs, async () => {
      const asked = ssm.send(new GetCommandInvocationCommand({ CommandId, InstanceId: id }), options);
      const invocation = await unless(['InvocationDoesNotExist'], asked);
      return DONE.includes(invocation?.Status ?? '') ? invocation : undefined;
    });
    const {
      Status: status = '',
      StandardOutputContent: stdout = '',
      StandardErrorContent: stderr = '',
    } = ended;
    return { how: status === 'Success' ? undefined : status, stdout, stderr };
  } catch (error) {
    throw explainAws(what, error);
  }
}

import {
  DescribeInstanceInformationCommand,
  GetCommandInvocationCommand,
  SendCommandCommand,
} from '@aws-sdk/client-ssm';
import { CliError } from '../../../errors.ts';
import { explainAws, unless } from './aws-error.ts';
import type { AwsPlace } from './aws-place.ts';
import { waitUntil } from './wait-until.ts';

/** An instance that was just launched installs updates before its agent says that it is there. */
const ONLINE_MS = 15 * 60_000;
const WORK_MS = 20 * 60_000;
const DONE = ['Success', 'Failed', 'TimedOut', 'Cancelled'];
const TAIL = 1500;

/** What is known about why a host cannot run an enclave. */
const KNOWN: readonly (readonly [pattern: RegExp, sentence: string, hint: string])[] = [
  [
    /dstack: no-enclaves/,
    'The parent instance has no support for enclaves',
    'It cannot be switched on later: dstack-cloud deploy --delete makes a new instance',
  ],
  [
    // What the allocator of aws-nitro-enclaves-cli says when it cannot reserve pages.
    /dstack: no-resources:.*(?:requested memory|huge page)|\bE2[67]\b|Insufficient memory/i,
    'The parent instance has not enough memory for the enclave',
    'Lower nitro_config.memory_mib, or set a larger nitro_config.instance_type and deploy with --delete',
  ],
  [
    /dstack: no-resources|\bE2[0-24]\b|Insufficient CPUs/i,
    'The parent instance has not enough CPUs for the enclave',
    'Lower nitro_config.cpu_count, or set a larger nitro_config.instance_type and deploy with --delete',
  ],
  [
    /vsock/i,
    'The network of the enclave does not start on its host',
    'See dstack-cloud logs; vsock is there only on instances with support for enclaves',
  ],
];

/** Waits until the instance takes commands. @throws CliError `timed_out` */
export async function untilReachable(aws: AwsPlace, id: string): Promise<void> {
  const { ssm, options, place } = aws;
  const Filters = [{ Key: 'InstanceIds', Values: [id] }];
  try {
    await waitUntil(place.context, `Instance ${id} does not take commands`, ONLINE_MS, async () => {
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

/**
 * Runs a script as root on an instance, by AWS Systems Manager. @returns standard output
 * @throws CliError `boot_failed` with the last lines that it wrote
 */
export async function runOnHost(aws: AwsPlace, id: string, what: string, script: string): Promise<string> {
  const { ssm, options, place } = aws;
  try {
    const { Command } = await ssm.send(
      new SendCommandCommand({
        ...{ DocumentName: 'AWS-RunShellScript', InstanceIds: [id], Comment: `dstack-cloud: ${what}` },
        Parameters: { commands: [script], executionTimeout: [String(WORK_MS / 1000)] },
      }),
      options,
    );
    const CommandId = Command?.CommandId ?? '';
    const ended = await waitUntil(place.context, what, WORK_MS, async () => {
      const asked = ssm.send(new GetCommandInvocationCommand({ CommandId, InstanceId: id }), options);
      const invocation = await unless(['InvocationDoesNotExist'], asked);
      return DONE.includes(invocation?.Status ?? '') ? invocation : undefined;
    });
    if (ended.Status === 'Success') return ended.StandardOutputContent ?? '';
    throw hostError(what, String(ended.Status), ended.StandardErrorContent ?? '');
  } catch (error) {
    throw explainAws(what, error);
  }
}

function hostError(what: string, status: string, stderr: string): CliError {
  const last = stderr.trim().slice(-TAIL);
  const [, sentence, hint] = KNOWN.find(([pattern]) => pattern.test(stderr)) ?? [];
  return new CliError(
    'boot_failed',
    `${sentence ?? `${what}: ${status}`}${last === '' ? '' : `:\n${last}`}`,
    {
      hint: hint ?? 'See dstack-cloud logs, then run the same command again',
    },
  );
}

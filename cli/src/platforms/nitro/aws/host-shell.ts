import type { Instance } from '@aws-sdk/client-ec2';
import { CliError } from '../../../errors.ts';
import type { AwsPlace } from './aws-place.ts';
import type { Ran } from './ran.ts';
import { runBySsm, untilOnline } from './ssm.ts';

/** An instance that was just launched installs updates before it takes commands. */
const ONLINE_MS = 15 * 60_000;
const WORK_MS = 20 * 60_000;
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

/**
 * Waits until the instance takes commands.
 *
 * @returns it, with all that is known about it by then
 * @throws CliError `timed_out`
 */
export async function untilReachable(aws: AwsPlace, live: Instance): Promise<Instance> {
  if (aws.settings.nitro.access === 'ssh') {
    const { untilSshAnswers } = await import('./ssh/reach-by-ssh.ts');
    return await untilSshAnswers(aws, live, ONLINE_MS);
  }
  await untilOnline(aws, live.InstanceId ?? '', ONLINE_MS);
  return live;
}

/**
 * Runs a script as root on an instance: by AWS Systems Manager, or by SSH where that is configured. @returns standard output
 * @throws CliError `boot_failed` with the last lines that it wrote
 */
export async function runOnHost(
  aws: AwsPlace,
  live: Instance,
  what: string,
  script: string,
): Promise<string> {
  const ran = await runBy(aws, live, what, script);
  if (ran.how === undefined) return ran.stdout;
  throw hostError(what, ran.how, ran.stderr);
}

async function runBy(aws: AwsPlace, live: Instance, what: string, script: string): Promise<Ran> {
  if (aws.settings.nitro.access !== 'ssh')
    return await runBySsm(aws, live.InstanceId ?? '', what, script, WORK_MS);
  const { runOverSsh } = await import('./ssh/reach-by-ssh.ts');
  return await runOverSsh(aws, live, what, script, WORK_MS);
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

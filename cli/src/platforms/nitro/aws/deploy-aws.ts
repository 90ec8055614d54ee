import { type Instance, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import type { PreparedNitro } from '../../../enclave/prepare-enclave.ts';
import { CliError } from '../../../errors.ts';
import { keepRevision } from '../../../project/revisions.ts';
import type { Prepared } from '../../../project/shared-files.ts';
import { type ProjectState, UPDATING, writeProjectState } from '../../../project/state-file.ts';
import type { DeployOptions, Place } from '../../platform.ts';
import { explainAws, hasCode } from './aws-error.ts';
import { type AwsPlace, openAws } from './aws-place.ts';
import { ensureBucket, sweepObjects } from './bucket.ts';
import { requireEnclave } from './check-aws.ts';
import { driftOf, parseEnclaves } from './enclaves.ts';
import { allowSsh } from './firewall-aws.ts';
import { deployScript } from './host-script.ts';
import { runOnHost, untilReachable } from './host-shell.ts';
import { launch, launchToken, untilRunning } from './launch.ts';
import { findInstance, instanceById } from './own-instance.ts';
import { startParent } from './power-aws.ts';
import { makeRelease } from './release.ts';
import { nextState, withInstance } from './state-of.ts';
import { waitUntil } from './wait-until.ts';

const TERMINATED_MS = 10 * 60_000;

/**
 * Makes the parent instance run the enclave that the project is now. Each step looks first at what is there, so that a run
 * that was interrupted is gone on with; everything that can be made beside the running enclave is made before it ends.
 */
export async function deployAws(
  place: Place,
  prepared: Prepared,
  options: DeployOptions,
): Promise<ProjectState> {
  const enclave = requireEnclave(prepared);
  const aws = await openAws(place);
  const { settings } = aws;
  const { context, project } = place;
  context.info('=== AWS Nitro Enclave Deployment ===');
  for (const [label, value] of [
    ['Account:', aws.account],
    ['Region:', settings.region],
    ['Instance:', settings.instance],
    ['S3 Bucket:', `s3://${settings.bucket}`],
  ] as const)
    context.info(`${label.padEnd(12)}${value}`);
  const before = options.before?.status === 'REMOVED' ? undefined : options.before;
  let live = await findInstance(aws);
  const next = nextState(aws, enclave, options.before);
  // First, so that what is made from here on is looked for.
  await writeProjectState(project.directory, before === undefined ? next : { ...before, status: UPDATING });
  await ensureBucket(aws);
  const { release, files } = await makeRelease(aws, enclave);
  if (live !== undefined && options.recreate) {
    await terminate(aws, live);
    live = undefined;
  }
  live ??= await launchOnce(aws, enclave, before ?? next);
  const id = live.InstanceId ?? '';
  await allowSsh(aws);
  live = await startParent(aws, live);
  context.info(`Waiting until ${id} takes commands`);
  live = await untilReachable(aws, live);
  context.info('Starting the enclave');
  const running = parseEnclaves(await runOnHost(aws, live, 'deploy', deployScript(release)));
  if (running === undefined) throw new CliError('boot_failed', 'The enclave ended as soon as it had started');
  const [other] = driftOf(running, next.registers);
  if (other !== undefined) throw new CliError('boot_failed', `The host runs another image. ${other}`);
  const state = { ...withInstance(place, next, live), status: running.state, launch_token: undefined };
  await writeProjectState(project.directory, state);
  await keepRevision(project, prepared);
  // The host has its copies.
  await sweepObjects(aws, files).catch((error: unknown) => {
    throw explainAws(`Bucket ${settings.bucket}`, error);
  });
  context.info('=== Deployment Complete ===');
  return state;
}

/** The token is on the disk before the launch, so that a run that goes on with this one launches no second instance. */
async function launchOnce(aws: AwsPlace, { appId }: PreparedNitro, state: ProjectState): Promise<Instance> {
  const { place } = aws;
  let token = state.launch_token ?? launchToken();
  for (;;) {
    await writeProjectState(place.project.directory, { ...state, launch_token: token });
    const made = await launch(aws, appId, token);
    const id = made.InstanceId ?? '';
    const known = (await instanceById(aws, id)) ?? made;
    // AWS remembers the token of an instance for long after its end.
    const isOver = ['terminated', 'shutting-down'].includes(known.State?.Name ?? '');
    if (!isOver) return await untilRunning(aws, id);
    token = launchToken();
  }
}

/** Ends the parent instance, with its disk. */
export async function terminate(aws: AwsPlace, live: Instance): Promise<void> {
  const { ec2, options, place } = aws;
  const id = live.InstanceId ?? '';
  place.context.info(`Terminating instance ${id}`);
  try {
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [id] }), options);
    await waitUntil(place.context, `Instance ${id} does not end`, TERMINATED_MS, async () => {
      const state = (await instanceById(aws, id))?.State?.Name ?? 'terminated';
      return state === 'terminated' ? true : undefined;
    });
  } catch (error) {
    if (!hasCode(error, 'InvalidInstanceID.NotFound')) throw explainAws(`Instance ${id}`, error);
  }
}

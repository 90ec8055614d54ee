import { type Instance, StartInstancesCommand, StopInstancesCommand } from '@aws-sdk/client-ec2';
import { CliError, EXIT } from '../../../errors.ts';
import { type ProjectState, writeProjectState } from '../../../project/state-file.ts';
import type { MachineReport, Place, StopOptions } from '../../platform.ts';
import { explainAws } from './aws-error.ts';
import { type AwsPlace, openAws } from './aws-place.ts';
import { START_SCRIPT, STOP_SCRIPT } from './host-script.ts';
import { runOnHost, untilReachable } from './host-shell.ts';
import { untilRunning } from './launch.ts';
import { findInstance, instanceById } from './own-instance.ts';
import { reportInstance } from './report-aws.ts';
import { withInstance } from './state-of.ts';
import { waitUntil } from './wait-until.ts';

const STOPPED_MS = 10 * 60_000;

/** Ends the enclave, and with `--host` stops its parent instance too; false when neither ran. */
export async function stopAws(
  place: Place,
  state: ProjectState,
  { host = false }: StopOptions = {},
): Promise<boolean> {
  const aws = await openAws(place);
  const live = await findInstance(aws);
  const id = live?.InstanceId ?? '';
  const isUp = live?.State?.Name === 'running' || live?.State?.Name === 'pending';
  let stopped = false;
  if (isUp && host) {
    await stopParent(aws, id);
    stopped = true;
  } else if (isUp) {
    const reached = await untilReachable(aws, live);
    stopped = (await runOnHost(aws, reached, 'stop', STOP_SCRIPT)).includes('stopped');
    place.context.info(
      `Instance ${id} goes on running, which costs money: dstack-cloud stop --host stops it too`,
    );
  }
  const status = live === undefined ? 'NOT_FOUND' : 'STOPPED';
  const updated_at = place.context.now().toISOString();
  const addresses = isUp && !host ? {} : { external_ip: '', internal_ip: '' };
  await writeProjectState(place.project.directory, { ...state, status, ...addresses, urls: {}, updated_at });
  return stopped;
}

/** Starts the parent instance and the enclave that was deployed. @throws CliError `not_deployed` */
export async function startAws(place: Place, state: ProjectState): Promise<MachineReport> {
  const aws = await openAws(place);
  const found = await findInstance(aws);
  if (found === undefined)
    throw new CliError('not_deployed', `Region ${aws.settings.region} has no instance of this project`, {
      hint: 'Make it again with dstack-cloud deploy',
      exitCode: place.context.exitCode ? EXIT.notFound : EXIT.failure,
    });
  const live = await untilReachable(aws, await startParent(aws, found));
  place.context.info('Starting the enclave');
  await runOnHost(aws, live, 'start', START_SCRIPT);
  const next = { ...withInstance(place, state, live), status: 'RUNNING' };
  await writeProjectState(place.project.directory, next);
  return await reportInstance(aws, next, live);
}

/** The parent instance, running. */
export async function startParent(aws: AwsPlace, live: Instance): Promise<Instance> {
  const { ec2, options, place } = aws;
  const id = live.InstanceId ?? '';
  try {
    if (live.State?.Name === 'stopping') await untilStopped(aws, id);
    if (live.State?.Name === 'stopping' || live.State?.Name === 'stopped') {
      place.context.info(`Starting instance ${id}`);
      await ec2.send(new StartInstancesCommand({ InstanceIds: [id] }), options);
    }
    return await untilRunning(aws, id);
  } catch (error) {
    throw explainAws(`Instance ${id}`, error);
  }
}

async function stopParent(aws: AwsPlace, id: string): Promise<void> {
  aws.place.context.info(`Stopping instance ${id}`);
  try {
    await aws.ec2.send(new StopInstancesCommand({ InstanceIds: [id] }), aws.options);
    await untilStopped(aws, id);
  } catch (error) {
    throw explainAws(`Instance ${id}`, error);
  }
}

async function untilStopped(aws: AwsPlace, id: string): Promise<void> {
  await waitUntil(aws.place.context, `Instance ${id} does not stop`, STOPPED_MS, async () => {
    const state = (await instanceById(aws, id))?.State?.Name;
    return state === 'stopped' || state === 'terminated' || state === undefined ? true : undefined;
  });
}

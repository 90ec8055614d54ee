import { CliError, EXIT } from '../../errors.ts';
import { type ProjectState, writeProjectState } from '../../project/state-file.ts';
import type { MachineReport, Place } from '../platform.ts';
import { explainGcp } from './api/gcp-error.ts';
import { openGcp } from './gcp-place.ts';
import { findInstance } from './own-instance.ts';
import { reportInstance } from './report-gcp.ts';
import { statusOf, withInstance } from './state-of.ts';

/** Stops the instance; false when it did not run. */
export async function stopGcp(place: Place, state: ProjectState): Promise<boolean> {
  const gcp = await openGcp(place);
  const { zone, instance } = gcp.settings;
  const live = await findInstance(gcp);
  const runs = live !== undefined && statusOf(live) !== 'STOPPED';
  if (runs)
    await gcp.compute.run('POST', ['zones', zone, 'instances', instance, 'stop']).catch((error: unknown) => {
      throw explainGcp(`Instance ${instance}`, error);
    });
  const now = place.context.now().toISOString();
  const status = live === undefined ? 'NOT_FOUND' : 'STOPPED';
  await writeProjectState(place.project.directory, {
    ...state,
    status,
    external_ip: '',
    urls: {},
    updated_at: now,
  });
  return runs;
}

/** Starts the instance as it was deployed. @throws CliError `not_deployed` */
export async function startGcp(place: Place, state: ProjectState): Promise<MachineReport> {
  const gcp = await openGcp(place);
  const { zone, instance } = gcp.settings;
  const live = await findInstance(gcp);
  if (live === undefined)
    throw new CliError('not_deployed', `Instance ${instance} does not exist in ${zone}`, {
      hint: 'Make it again with dstack-cloud deploy; its data disk is kept',
      exitCode: place.context.exitCode ? EXIT.notFound : EXIT.failure,
    });
  if (statusOf(live) !== 'RUNNING') {
    place.context.info('Starting the machine');
    await gcp.compute.run('POST', ['zones', zone, 'instances', instance, 'start']).catch((error: unknown) => {
      throw explainGcp(`Instance ${instance}`, error);
    });
  }
  const started = (await findInstance(gcp)) ?? live;
  const next = withInstance(place, state, started);
  await writeProjectState(place.project.directory, next);
  return await reportInstance(gcp, next, started);
}

import { type ProjectState, writeProjectState } from '../../../project/state-file.ts';
import type { Place } from '../../platform.ts';
import { explainAws } from './aws-error.ts';
import { openAws } from './aws-place.ts';
import { removeBucket, sweepObjects } from './bucket.ts';
import { terminate } from './deploy-aws.ts';
import { removeProfile } from './instance-profile.ts';
import { removeSecurityGroup } from './network.ts';
import { findInstance } from './own-instance.ts';
import { waitUntil } from './wait-until.ts';

const GROUP_MS = 5 * 60_000;

/** Removes everything that was made for the project; its bucket, empty by then, goes with `--all`. */
export async function removeAws(
  place: Place,
  state: ProjectState,
  { all = false }: { readonly all?: boolean },
): Promise<void> {
  const aws = await openAws(place);
  const { context } = place;
  try {
    const live = await findInstance(aws);
    if (live !== undefined) await terminate(aws, live);
    await waitUntil(context, 'The security group is still in use', GROUP_MS, async () =>
      (await removeSecurityGroup(aws)) ? true : undefined,
    );
    await removeProfile(aws);
    await sweepObjects(aws, []);
    if (all) await removeBucket(aws);
  } catch (error) {
    throw explainAws(`Removal of ${aws.settings.instance}`, error);
  }
  await writeProjectState(place.project.directory, {
    ...state,
    ...{ status: 'REMOVED', external_ip: '', internal_ip: '', urls: {}, launch_token: undefined },
    updated_at: context.now().toISOString(),
  });
}

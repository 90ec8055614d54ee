import { CliError } from '../../errors.ts';
import type { ProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import { openGcp } from './gcp-place.ts';
import { findInstance } from './own-instance.ts';
import { stateOfInstance } from './state-of.ts';

/** The project's instance by its labels, when no `state.json` names it. */
export async function findGcp(place: Place): Promise<ProjectState | undefined> {
  try {
    const gcp = await openGcp(place);
    const live = await findInstance(gcp);
    return live === undefined ? undefined : stateOfInstance(place, gcp.settings, live);
  } catch (error) {
    // Nobody who never deployed has to log in to be told so.
    if (!(error instanceof CliError) || !['no_credentials', 'bad_app_json', 'not_owner'].includes(error.code))
      throw error;
    place.context.debug(`No look at Google Cloud: ${error.message}`);
    return undefined;
  }
}

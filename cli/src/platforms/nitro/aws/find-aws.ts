import { CliError } from '../../../errors.ts';
import type { ProjectState } from '../../../project/state-file.ts';
import type { Place } from '../../platform.ts';
import { openAws } from './aws-place.ts';
import { findInstance } from './own-instance.ts';
import { stateOfInstance } from './state-of.ts';

/** The project's parent instance by its tags, when no `state.json` names it. */
export async function findAws(place: Place): Promise<ProjectState | undefined> {
  try {
    const aws = await openAws(place);
    const live = await findInstance(aws);
    return live === undefined ? undefined : stateOfInstance(aws, live);
  } catch (error) {
    // Nobody who never deployed has to log in to be told so.
    if (!(error instanceof CliError) || !['no_credentials', 'bad_app_json'].includes(error.code)) throw error;
    place.context.debug(`No look at AWS: ${error.message}`);
    return undefined;
  }
}

import { checkCvm } from '@dstack-cloud/vmm';
import type { Prepared } from '../../project/shared-files.ts';
import type { ProjectState } from '../../project/state-file.ts';
import { createOptions, newDirectory } from '../local/create-options.ts';
import { projectMachine } from '../local/paths.ts';
import { requireOwner } from '../local/require-owner.ts';
import type { Place } from '../platform.ts';
import { refuseEnvironment } from './refuse-environment.ts';

/** Refuses what this host cannot run. @throws CliError, VmmError */
export async function checkEnclave(
  place: Place,
  prepared: Prepared,
  before: ProjectState | undefined,
): Promise<void> {
  await refuseEnvironment(place);
  const known = before === undefined ? undefined : projectMachine(place, before);
  if (known !== undefined) await requireOwner(place, known);
  await checkCvm(await createOptions(place, prepared, known ?? newDirectory(place)));
}

import { checkCvm } from '@dstack-cloud/vmm';
import { CliError } from '../../errors.ts';
import { readEnvFile } from '../../project/env-file.ts';
import type { Prepared } from '../../project/shared-files.ts';
import type { ProjectState } from '../../project/state-file.ts';
import { createOptions, newDirectory } from '../local/create-options.ts';
import { projectMachine } from '../local/paths.ts';
import { requireOwner } from '../local/require-owner.ts';
import type { Place } from '../platform.ts';

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

/** An enclave is measured as a whole, and its host hands nothing in. @throws CliError `bad_env` */
async function refuseEnvironment({ project }: Place): Promise<void> {
  const { vars } = await readEnvFile(project);
  if (vars.length === 0) return;
  throw new CliError(
    'bad_env',
    `${project.config.env_file} has variables, and an enclave gets none from its host`,
    {
      expected: 'no .env on platform nitro',
      found: `${vars.length} variables`,
      hint: 'Seal secrets with env_crypt_key of the keys that the enclave gets, and fetch them from inside; what is public belongs in the Dockerfile',
    },
  );
}

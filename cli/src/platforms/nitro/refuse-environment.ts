import { CliError } from '../../errors.ts';
import { readEnvFile } from '../../project/env-file.ts';
import type { Place } from '../platform.ts';

/** An enclave is measured as a whole, and its host hands nothing in. @throws CliError `bad_env` */
export async function refuseEnvironment({ project }: Place): Promise<void> {
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

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { type EnvVar, parseDotEnv, readFileBounded } from '@dstack-cloud/app';
import { CliError } from '../errors.ts';
import type { Project } from './app-config.ts';

const MAX_ENV_BYTES = 1024 * 1024;

/** Variables of the project's `.env`; none when there is no such file (chapter 50 section 2.4). */
export async function readEnvFile(project: Project): Promise<{ vars: EnvVar[]; warnings: string[] }> {
  const { config, directory } = project;
  if (config.env_file === '') return { vars: [], warnings: [] };
  const path = resolve(directory, config.env_file);
  if (!existsSync(path)) return { vars: [], warnings: [] };
  const text = new TextDecoder().decode(await readFileBounded(path, MAX_ENV_BYTES));
  if (config.key_provider !== 'kms')
    throw new CliError('bad_env', `${config.env_file} found but KMS is not enabled`, {
      expected: 'key_provider kms',
      found: `key_provider ${config.key_provider}`,
      hint: `Set key_provider to kms in app.json, or remove ${config.env_file}`,
    });
  return parseDotEnv(text);
}

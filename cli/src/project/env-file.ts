import { type EnvVar, HOST_SHARED_LIMITS, readFileBounded, validateEnv } from '@dstack-cloud/app';
import { sealedEnvLength } from '@dstack-cloud/keys';
import { CliError } from '../errors.ts';
import type { Project } from './app-config.ts';
import { decodeEnv } from './decode-env.ts';
import { type DotEnv, parseDotEnv } from './dotenv.ts';
import { projectPath } from './project-path.ts';

const MAX_ENV_BYTES = 1024 * 1024;

/** The project's environment file: its text, and what it says. */
export interface EnvFile extends DotEnv {
  readonly path: string;
  readonly text: string;
}

/** Where the project's environment file is, or would be. @throws CliError `bad_app_json` */
export async function envPath(project: Project): Promise<string> {
  const config = { ...project.config, env_file: project.config.env_file || '.env' };
  return await projectPath({ ...project, config }, 'env_file');
}

/** Reads `.env`, or undefined when there is none. Throws `bad_env` naming the line. */
export async function loadEnvFile(project: Project): Promise<EnvFile | undefined> {
  const path = await envPath(project);
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_ENV_BYTES);
  } catch (error) {
    if ((error as { code?: string }).code === 'file-missing') return undefined;
    throw new CliError('bad_env', `${path} cannot be read`, { cause: error, hint: `Check ${path}` });
  }
  const text = decodeEnv(bytes, path);
  return { path, text, ...parseDotEnv(text, path) };
}

/**
 * The variables that a deploy seals, checked by the code that the guest checks them with; none when there is no file.
 * Throws `bad_env`.
 */
export async function readEnvFile(
  project: Project,
): Promise<{ vars: readonly EnvVar[]; warnings: readonly string[] }> {
  const { config } = project;
  const file = config.env_file === '' ? undefined : await loadEnvFile(project);
  if (file === undefined) return { vars: [], warnings: [] };
  if (config.key_provider !== 'kms')
    throw new CliError('bad_env', `${config.env_file} found but KMS is not enabled`, {
      expected: 'key_provider kms',
      found: `key_provider ${config.key_provider}`,
      hint: `Set key_provider to kms in app.json, or remove ${config.env_file}`,
    });
  checkVariables(file.vars, file.path);
  return file;
}

/** Refuses what no guest takes. */
export function checkVariables(vars: readonly EnvVar[], path: string): void {
  try {
    validateEnv(
      vars,
      vars.map(({ key }) => key),
    );
  } catch (error) {
    const { expected, found } = error as { expected?: string; found?: string };
    throw new CliError('bad_env', `${path} cannot be used`, {
      cause: error,
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
      hint: `Make the variables of ${path} fewer or smaller; large files belong into a volume or the image`,
    });
  }
  const size = vars.length === 0 ? 0 : sealedEnvLength(vars);
  const limit = HOST_SHARED_LIMITS['.encrypted-env'];
  if (size > limit)
    throw new CliError('bad_env', `${path} is too large for the guest`, {
      expected: `at most ${limit} bytes when sealed`,
      found: `${size} bytes`,
      hint: `Make the variables of ${path} fewer or smaller; large files belong into a volume or the image`,
    });
}

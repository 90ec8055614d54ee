import { realpath } from 'node:fs/promises';
import { relative, resolve, sep } from 'node:path';
import { CliError } from '../errors.ts';
import type { Project } from './app-config.ts';

type Member = 'docker_compose_file' | 'prelaunch_script' | 'app_compose_file' | 'env_file';

/**
 * Path of a file that app.json names. It lies in the project's folder, also where links lead: a project that comes from
 * somebody else must not read files of this machine into what is published, or into an environment that its owner can
 * open.
 *
 * @throws CliError `bad_app_json`
 */
export async function projectPath(project: Project, member: Member): Promise<string> {
  const hint = `Put the file into the project and name it in ${member} of app.json`;
  return await pathInside(project.directory, project.config[member], member, hint);
}

/** Path of a file of the project that the machine gets as it is, by the same rule. @throws CliError `bad_app_json` */
export async function handedFilePath(
  directory: string,
  name: '.user-config' | '.seal-approval.json',
): Promise<string> {
  return await pathInside(directory, name, name, `Put the file itself into ${directory}`);
}

/** Path of an archive that `local_config.images` names, by the same rule. @throws CliError `bad_app_json` */
export async function imagePathOf(directory: string, name: string): Promise<string> {
  const what = `${name} in local_config.images`;
  return await pathInside(directory, name, what, 'Put the archive into the project');
}

/** Path of a file or folder that `nitro_config` names, by the same rule. @throws CliError `bad_app_json` */
export async function enclaveFilePath(
  project: Project,
  member: 'image' | 'dockerfile' | 'eif' | 'root_ca' | 'blobs',
): Promise<string> {
  const name = project.config.nitro_config[member];
  const what = `nitro_config.${member}`;
  return await pathInside(project.directory, name, what, `Put it into the project and name it in ${what}`);
}

async function pathInside(directory: string, name: string, what: string, hint: string): Promise<string> {
  const path = resolve(directory, name);
  const real = await realPath(path);
  const root = (await realPath(directory)) ?? directory;
  if (isOutside(directory, path) || (real !== undefined && isOutside(root, real)))
    throw new CliError('bad_app_json', `${what} leads out of the project`, {
      expected: `a file below ${directory}`,
      found: real ?? path,
      hint,
    });
  return path;
}

/** The same for a file whose text is published; it must not be the file with the secrets. */
export async function publishedPath(project: Project, member: Exclude<Member, 'env_file'>): Promise<string> {
  const path = await projectPath(project, member);
  const secrets = resolve(project.directory, project.config.env_file || '.env');
  const [one, other] = [await realPath(path), await realPath(secrets)];
  if (path === secrets || (one !== undefined && one === other))
    throw new CliError(
      'bad_app_json',
      `${member} is the environment file, whose secrets would be published`,
      {
        found: path,
        hint: `Correct ${member} or env_file in app.json`,
      },
    );
  return path;
}

/** Undefined for what does not exist. */
async function realPath(path: string): Promise<string | undefined> {
  try {
    return await realpath(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CliError('file_missing', `${path} cannot be read`, { cause: error });
  }
}

function isOutside(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way === '..' || way.startsWith(`..${sep}`);
}

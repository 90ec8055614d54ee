import type { AppCompose } from '@dstack-cloud/app';
import {
  type ComposeFile,
  planContainers,
  planProcesses,
  readComposeFile,
} from '@dstack-cloud/app/compose-file';
import { CliError, messageOf } from '../../errors.ts';
import { readEnvFile } from '../../project/env-file.ts';
import { localDriver } from '../../project/local-driver.ts';
import type { Place } from '../platform.ts';
import { hostEngine } from './host-engine.ts';

/**
 * Asks the guest's own reader what becomes of the compose file on this host: says what is not done, and refuses what
 * cannot run.
 *
 * @throws CliError `bad_compose_file`, `engine_missing`
 */
export async function checkCompose(place: Place, compose: AppCompose): Promise<void> {
  if (compose.runner !== 'docker-compose') return;
  const { context, project } = place;
  const { docker_compose_file, app_compose_file } = project.config;
  const name = app_compose_file === '' ? docker_compose_file : `docker_compose_file of ${app_compose_file}`;
  if (localDriver(place.config, project) === 'vm') {
    context.info('Services run in containers inside a virtual machine of their own');
    return requireReadable(compose, name);
  }
  const { engine } = await hostEngine(place);
  try {
    const file = readComposeFile(compose.dockerComposeFile ?? '', name);
    const notes =
      engine.name === 'process' ? await processNotes(place, file) : await containerNotes(place, file);
    context.info(
      engine.name === 'process'
        ? 'Services run as processes of this host, WITHOUT ISOLATION: no container engine, no images, no network of their own'
        : `Services run in containers of this host's ${engine.name}`,
    );
    for (const note of notes) context.warn(note);
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code !== 'compose-file-invalid' && code !== 'compose-file-unsupported') throw error;
    throw new CliError('bad_compose_file', messageOf(error), { hint: `Change ${name}`, cause: error });
  }
}

/** Docker in the guest does what it can; what is not even a compose file is refused here. */
function requireReadable(compose: AppCompose, name: string): void {
  try {
    readComposeFile(compose.dockerComposeFile ?? '', name);
  } catch (error) {
    if ((error as { code?: string }).code !== 'compose-file-invalid') return;
    throw new CliError('bad_compose_file', messageOf(error), { hint: `Change ${name}`, cause: error });
  }
}

async function processNotes(place: Place, file: ComposeFile): Promise<readonly string[]> {
  const sealedEnv = await sealedVariables(place);
  const variables = { ...place.config.local.env, ...sealedEnv };
  return planProcesses(file, { variables, sealedEnv, isDraft: true }).notes;
}

async function containerNotes(place: Place, file: ComposeFile): Promise<readonly string[]> {
  const { config, project } = place;
  const guest = project.config.local_config.container_port;
  return planContainers(file, {
    variables: { ...config.local.env, ...(await sealedVariables(place)) },
    isDraft: true,
    project: project.config.name,
    // Where they lie is known when the machine runs; here it is about what cannot have a place.
    placePath: () => undefined,
    ports: [{ address: '127.0.0.1', host: guest, guest }],
  }).notes;
}

async function sealedVariables({ project }: Place): Promise<Record<string, string>> {
  const { vars } = await readEnvFile(project);
  return Object.fromEntries(vars.map(({ key, value }) => [key, value]));
}

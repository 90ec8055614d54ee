import { defaultGlobalConfig, type GlobalConfig, loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { loadProject, loadProjectToTend } from '../project/app-config.ts';
import type { Place } from './platform.ts';

/** Project and configuration of a command. */
export async function loadPlace(context: Context): Promise<Place> {
  return { context, config: await loadGlobalConfig(context), project: await loadProject(context) };
}

/**
 * The same for a command that shows, stops or removes a machine. A configuration or an `app.json` that cannot be used is
 * a warning here, and its defaults count.
 */
export async function loadPlaceToTend(context: Context): Promise<Place> {
  const project = await loadProjectToTend(context);
  if (project.problem !== undefined) warn(context, project.problem);
  const { config } = await globalConfigToTend(context);
  return { context, config, project };
}

/** The global configuration, or with a warning its defaults. */
export async function globalConfigToTend(
  context: Context,
): Promise<{ config: GlobalConfig; problem?: CliError }> {
  try {
    return { config: await loadGlobalConfig(context) };
  } catch (problem) {
    if (!(problem instanceof CliError)) throw problem;
    warn(context, problem);
    return { config: defaultGlobalConfig(), problem };
  }
}

function warn(context: Context, { message, hint }: CliError): void {
  for (const line of `${message}${hint === undefined ? '' : `\n${hint}`}`.split('\n')) context.warn(line);
}

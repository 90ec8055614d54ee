import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { loadProject } from '../project/app-config.ts';
import type { Place } from './platform.ts';

/** Project and configuration of a command. */
export async function loadPlace(context: Context): Promise<Place> {
  return { context, config: await loadGlobalConfig(context), project: await loadProject(context) };
}

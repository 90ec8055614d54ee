import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { loadPlace } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/platform.ts';
import { readProjectState } from '../project/state-file.ts';

/** `stop`: a machine that is not there is no failure (chapter 50 section 1.2). */
export async function run(context: Context): Promise<number> {
  const place = await loadPlace(context);
  const platform = await loadPlatform(place.project.config.platform);
  const state = await readProjectState(place.project.directory);
  const deployed = state !== undefined && state.status !== 'REMOVED';
  const stopped = deployed && (await platform.stop(place, state));
  if (stopped) context.print(`Stopped ${state.instance_name}`);
  else context.print(deployed ? `${state.instance_name} was not running` : 'No deployment found.');
  context.result({ stopped, status: deployed ? 'STOPPED' : 'NOT_DEPLOYED' });
  return !deployed && context.exitCode ? EXIT.notFound : EXIT.ok;
}

import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { deploymentToEnd } from '../platforms/deployment.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';

export const changesProject = true;

/** `stop`: a machine that is not there is no failure. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const place = await loadPlaceToTend(context);
  const platform = await loadPlatform(place.project.config.platform);
  const state = await deploymentToEnd(place, platform);
  const stopped =
    state !== undefined && (await platform.stop(place, state, { host: flags['host'] === true }));
  if (stopped) context.print(`Stopped ${state.instance_name}`);
  else context.print(state === undefined ? 'No deployment found.' : `${state.instance_name} was not running`);
  context.result({ stopped, status: state === undefined ? 'NOT_DEPLOYED' : 'STOPPED' });
  return state === undefined && context.exitCode ? EXIT.notFound : EXIT.ok;
}

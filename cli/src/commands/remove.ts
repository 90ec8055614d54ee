import { confirm } from '../ask.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { deploymentToEnd } from '../platforms/deployment.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';

export const changesProject = true;

/** `remove`: the machine and its disk are gone for good, so a person is asked; a script is not. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const place = await loadPlaceToTend(context);
  const platform = await loadPlatform(place.project.config.platform);
  const state = await deploymentToEnd(place, platform);
  if (state === undefined) {
    context.print('No deployment found.');
    context.result({ removed: false });
    return context.exitCode ? EXIT.notFound : EXIT.ok;
  }
  if (context.interactive) await confirm(context, `Remove ${state.instance_name} and its disk?`);
  // A machine that runs is stopped first, as the cloud platforms do.
  await platform.stop(place, state);
  await platform.remove(place, state, { force: flags['force'] === true });
  context.print(`Removed ${state.instance_name}`);
  context.result({ removed: true, instance: state.instance_name });
  return EXIT.ok;
}

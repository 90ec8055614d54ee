import { confirm } from '../ask.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { deploymentToEnd } from '../platforms/deployment.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';
import { type ProjectState, readProjectState } from '../project/state-file.ts';

export const changesProject = true;

/** `remove`: the machine and its disk are gone for good, so a person is asked, and a script must say `--yes`. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const place = await loadPlaceToTend(context);
  const platform = await loadPlatform(place.project.config.platform);
  const all = flags['all'] === true;
  // What an earlier `remove` kept is found by its state, which says REMOVED.
  const left = all ? await readProjectState(place.project.directory).catch(() => undefined) : undefined;
  const state = (await deploymentToEnd(place, platform)) ?? left;
  if (state === undefined) {
    context.print('No deployment found.');
    context.result({ removed: false });
    return context.exitCode ? EXIT.notFound : EXIT.ok;
  }
  await confirm(context, removalQuestion(state, all));
  // A machine of this host that runs is stopped first; a cloud does that itself.
  if (!isInCloud(state)) await platform.stop(place, state);
  const keepImages = flags['keepImages'] === true;
  await platform.remove(place, state, { force: flags['force'] === true, all, keepImages });
  context.print(`Removed ${state.instance_name}`);
  context.result({ removed: true, instance: state.instance_name });
  return EXIT.ok;
}

/** A cloud keeps the data disk unless all is to go. */
function removalQuestion(state: ProjectState, all: boolean): string {
  const { platform, instance_name: name } = state;
  if (!isInCloud(state)) return `Remove ${name} and its disk?`;
  if (platform === 'nitro') return `Terminate ${name} and remove all else that was made for it?`;
  return all
    ? `Remove ${name}, its data disk, its firewall rules and all else of this project?`
    : `Remove ${name}?`;
}

function isInCloud({ platform, machine_dir: directory }: ProjectState): boolean {
  return platform === 'gcp' || (platform === 'nitro' && directory === '');
}

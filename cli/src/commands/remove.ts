import { ask } from '../ask.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { loadPlace } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/platform.ts';
import { readProjectState } from '../project/state-file.ts';

/** `remove`: the machine and its disk are gone for good, so a person is asked; a script is not. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const place = await loadPlace(context);
  const platform = await loadPlatform(place.project.config.platform);
  const state = await readProjectState(place.project.directory);
  if (state === undefined || state.status === 'REMOVED') {
    context.print('No deployment found.');
    context.result({ removed: false });
    return context.exitCode ? EXIT.notFound : EXIT.ok;
  }
  if (context.interactive && !context.yes)
    await confirm(`Remove ${state.instance_name} and its disk? [y/N]: `);
  // A machine that runs is stopped first, as the cloud platforms do.
  await platform.stop(place, state);
  await platform.remove(place, state, { force: flags['force'] === true });
  context.print(`Removed ${state.instance_name}`);
  context.result({ removed: true, instance: state.instance_name });
  return EXIT.ok;
}

async function confirm(question: string): Promise<void> {
  if (!/^y(es)?$/i.test(await ask(question)))
    throw new CliError('refused', 'Nothing was removed', { exitCode: EXIT.refused });
}

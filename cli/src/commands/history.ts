import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { readProjectState } from '../project/state-file.ts';

/** `history`: what was deployed when, the newest first. */
export async function run(context: Context): Promise<number> {
  const { project } = await loadPlaceToTend(context);
  const state = await readProjectState(project.directory);
  const revisions = [...(state?.revisions ?? [])].reverse();
  context.result(revisions);
  if (revisions.length === 0) {
    context.info("Nothing was deployed. Run 'dstack-cloud deploy' first.");
    return context.exitCode ? EXIT.notFound : EXIT.ok;
  }
  if (!context.json) context.print('DEPLOYED             COMPOSE HASH');
  for (const { time, compose_hash: hash } of revisions)
    context.print(`${time.slice(0, 19).padEnd(19)}  ${hash}`);
  return EXIT.ok;
}

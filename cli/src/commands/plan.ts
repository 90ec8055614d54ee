import type { Context } from '../context.ts';
import { changeLines, planProject } from '../plan/plan-project.ts';
import { findDeployment } from '../platforms/deployment.ts';
import { loadPlace } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';

/** `plan`: what a deploy would change; nothing is changed, nothing is signed. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const place = await loadPlace(context);
  const platform = await loadPlatform(place.project.config.platform);
  const { state: before, problem } = await findDeployment(place, platform);
  if (problem !== undefined) throw problem;
  const deletesData = flags['deleteData'] === true;
  const plan = await planProject(place, platform, before, {
    recreate: flags['delete'] === true || deletesData,
    data: deletesData ? 'delete' : 'keep',
  });
  for (const line of plan.lines) context.print(line);
  for (const line of changeLines(plan.resources)) context.print(line);
  context.result(plan.json);
  return undefined;
}

import type { Context } from '../context.ts';
import { requireDeployment } from '../platforms/deployment.ts';
import { loadPlace } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';

export const changesProject = true;

/** `start`: boots the machine as it was deployed, unless it runs, and prints its state. */
export async function run(context: Context): Promise<undefined> {
  const place = await loadPlace(context);
  const platform = await loadPlatform(place.project.config.platform);
  const state = await requireDeployment(place, platform);
  const report = await platform.start(place, state);
  for (const [label, value] of report.rows) context.print(`${label.padEnd(14)}${value}`);
  const { status, simulated, urls, instanceId } = report;
  context.result({ status, simulated, urls, instance_id: instanceId });
  return undefined;
}

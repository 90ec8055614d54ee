import type { Context } from '../context.ts';
import { loadPlace } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/platform.ts';
import { requireProjectState } from '../project/state-file.ts';

/** `start`: boots the machine as it was deployed, and prints its state. */
export async function run(context: Context): Promise<undefined> {
  const place = await loadPlace(context);
  const platform = await loadPlatform(place.project.config.platform);
  const state = await requireProjectState(context, place.project.directory);
  context.info('Booting');
  const report = await platform.start(place, state);
  for (const [label, value] of report.rows) context.print(`${label.padEnd(14)}${value}`);
  context.result({ status: report.status, urls: report.urls, instance_id: report.instanceId });
  return undefined;
}

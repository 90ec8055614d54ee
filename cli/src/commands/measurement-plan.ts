import type { Context } from '../context.ts';
import { openRegistration } from '../measurement/open-registration.ts';
import { type MeasurementOptions, requiredDelay, workloadOptions } from '../measurement/options.ts';
import { planJson, planLines } from '../measurement/plan.ts';
import { readWorkload } from '../measurement/read-workload.ts';

/** `measurement plan`: what has to be signed by whom so that a workload gets keys, and when that could be; sends nothing. */
export async function run(
  context: Context,
  [target]: readonly (string | undefined)[],
  options: MeasurementOptions,
): Promise<undefined> {
  // Nothing is sent: what is simulated may be looked at.
  const workload = await readWorkload(context, target, {
    ...workloadOptions(options, 'plan'),
    allowSimulated: true,
  });
  const open = await openRegistration(
    context,
    workload,
    { ...options, anyDevice: options.anyDevice === true, allowDebug: options.allowDebug === true },
    requiredDelay(options),
  );
  context.print(
    `${workload.role === 'kms' ? 'Key service' : `App ${workload.appId}`}, from ${workload.source}`,
  );
  for (const line of planLines(open.view, open.registration, open.plan)) context.print(line);
  context.result({
    ...{ role: workload.role, app_id: workload.appId ?? null, source: workload.source },
    simulated: workload.simulated,
    ...planJson(open.view, open.registration, open.plan),
  });
  return undefined;
}

import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { findDeployment } from '../platforms/deployment.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';
import { measurements } from '../status/measurements.ts';

const LABEL_WIDTH = 14;

/** `status`: state, addresses, and the Measurements block that the documentation promises. */
export async function run(context: Context): Promise<number> {
  const place = await loadPlaceToTend(context);
  const platform = await loadPlatform(place.project.config.platform);
  const { state, problem } = await findDeployment(place, platform);
  if (problem !== undefined) context.warn(`${problem.message}. ${problem.hint ?? ''}`);
  if (state === undefined) {
    const why = problem ?? place.project.problem;
    if (why !== undefined) throw why;
    context.print("No deployment found. Run 'dstack-cloud deploy' first.");
    context.result({ status: 'NOT_DEPLOYED' });
    return context.exitCode ? EXIT.notFound : EXIT.ok;
  }
  const report = await platform.report(place, state);
  for (const [label, value] of report.rows) context.print(`${label.padEnd(LABEL_WIDTH)}${value}`);
  const measured = await measurements(place, state, report);
  context.print('');
  context.print('Measurements:');
  for (const [name, value] of measured.rows) context.print(`  ${`${name}:`.padEnd(LABEL_WIDTH + 2)}${value}`);
  for (const drift of measured.drift) context.print(`  ! ${drift}`);
  context.result({
    instance: state.instance_name,
    platform: state.platform,
    status: report.status,
    simulated: report.simulated,
    error: report.error,
    urls: report.urls,
    ...(report.hardware === undefined ? {} : { hardware: report.hardware }),
    created_at: state.created_at,
    updated_at: state.updated_at,
    measurements: Object.fromEntries(measured.rows),
    drift: measured.drift,
    problem: (problem ?? place.project.problem)?.message ?? null,
  });
  // What is shown is right, but not all of the project could be read.
  if (problem !== undefined || place.project.problem !== undefined) return EXIT.failure;
  return report.status === 'NOT_FOUND' && context.exitCode ? EXIT.notFound : EXIT.ok;
}

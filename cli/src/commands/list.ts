import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { globalConfigToTend } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';
import { findProject, loadProjectToTend } from '../project/app-config.ts';

const COLUMNS = ['NAME', 'STATUS', 'TEE', 'APP ID', 'URL', 'CREATED', 'PROJECT'] as const;

/** `list`: every machine of the platform. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const { config, problem } = await globalConfigToTend(context);
  const inProject = (await findProject(context.directory)) !== undefined;
  const app = inProject ? (await loadProjectToTend(context)).config : undefined;
  const named = typeof flags['project'] === 'string' ? flags['project'] : undefined;
  // Who names a project of Google Cloud means that one.
  const name = named === undefined ? (app?.platform ?? config.platform ?? 'local') : 'gcp';
  const platform = await loadPlatform(name);
  const own = app?.gcp_config['project'];
  const machines = await platform.list(
    context,
    config,
    named ?? (typeof own === 'string' && own !== '' ? own : undefined),
  );
  context.result(machines);
  if (machines.length === 0) context.info('No machines');
  const exitCode = problem === undefined ? EXIT.ok : EXIT.failure;
  if (machines.length === 0 || context.json) return exitCode;
  const rows = machines.map((one) => [
    one.name,
    one.status,
    one.simulated ? 'simulated' : 'yes',
    one.app_id,
    one.urls['app'] ?? '-',
    one.created_at.slice(0, 19),
    one.project ?? '-',
  ]);
  const widths = COLUMNS.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of [[...COLUMNS], ...rows])
    context.print(
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    );
  return exitCode;
}

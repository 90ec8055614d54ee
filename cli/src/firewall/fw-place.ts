import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { type GcpPlace, openGcp } from '../platforms/gcp/gcp-place.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { notYet } from '../platforms/not-yet.ts';

/** The instance that a `fw` command is about: the project's, or the one that is named. */
export async function firewallPlace(
  context: Context,
  flags: Readonly<Record<string, unknown>>,
): Promise<GcpPlace> {
  const place = await loadPlaceToTend(context);
  const { config } = place.project;
  if (config.platform !== 'gcp') throw notYet(`fw on platform ${config.platform}`);
  const named = Object.fromEntries(
    [
      ['project', flags['project']],
      ['instance_name', flags['instance']],
    ].filter(([, value]) => value !== undefined),
  );
  const gcp_config = { ...config.gcp_config, ...named };
  return await openGcp({ ...place, project: { ...place.project, config: { ...config, gcp_config } } });
}

/** @throws CliError `not_deployed` */
export function noInstance({ settings }: GcpPlace): CliError {
  return new CliError('not_deployed', `Instance ${settings.instance} does not exist in ${settings.zone}`, {
    hint: 'Deploy first; the rules act on the instance',
  });
}

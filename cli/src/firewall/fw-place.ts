import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';
import { notYet } from '../platforms/not-yet.ts';
import type { Firewall, Place } from '../platforms/platform.ts';

/** The instance that a `fw` command is about, the project's or the one that is named, and the firewall before it. */
export async function firewallPlace(
  context: Context,
  flags: Readonly<Record<string, unknown>>,
): Promise<{ readonly place: Place; readonly firewall: Firewall }> {
  const place = await loadPlaceToTend(context);
  const { config } = place.project;
  const { firewall } = await loadPlatform(config.platform);
  if (firewall === undefined) throw notYet(`fw on platform ${config.platform}`);
  const named = Object.fromEntries(
    [
      ['project', flags['project']],
      ['instance_name', flags['instance']],
    ].filter(([, value]) => value !== undefined),
  );
  if (config.platform !== 'gcp' && Object.keys(named).length > 0)
    throw new CliError('usage', '--instance and --project are for platform gcp', { exitCode: EXIT.usage });
  const gcp_config = { ...config.gcp_config, ...named };
  return { firewall, place: { ...place, project: { ...place.project, config: { ...config, gcp_config } } } };
}

import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { findDeployment, requireDeployment } from '../platforms/deployment.ts';
import { loadPlaceToTend } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';

const MAX_LINES = 1_000_000;

/** `logs`: the console of the machine, its journal, or one container. */
export async function run(
  context: Context,
  [named]: readonly (string | undefined)[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const lines = Number(flags['lines']);
  if (!Number.isInteger(lines) || lines < 0 || lines > MAX_LINES)
    throw new CliError('bad_argument', `--lines must be a whole number up to ${MAX_LINES}`, {
      found: String(flags['lines']),
      exitCode: EXIT.usage,
    });
  const place = await loadPlaceToTend(context);
  const platform = await loadPlatform(place.project.config.platform);
  // What the machine says of itself is enough to read its log.
  const state = (await findDeployment(place, platform)).state ?? (await requireDeployment(place, platform));
  const container = named ?? (typeof flags['container'] === 'string' ? flags['container'] : undefined);
  const journal = flags['journal'] === true;
  if (journal && container !== undefined)
    throw new CliError('bad_argument', '--journal and --container are two logs: ask for one', {
      exitCode: EXIT.usage,
    });
  if (journal && place.project.config.platform !== 'local')
    throw new CliError('bad_argument', '--journal is for virtual machines of platform local', {
      found: place.project.config.platform,
    });
  await platform.logs(place, state, { container, journal, lines, follow: flags['follow'] === true });
  return undefined;
}

import { checkPolicy } from '../chain/check-policy.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { requireDeployment } from '../platforms/deployment.ts';
import { loadPlace } from '../platforms/load-place.ts';
import { loadPlatform } from '../platforms/load-platform.ts';
import { notYet } from '../platforms/not-yet.ts';
import type { Place } from '../platforms/platform.ts';
import { readRevision } from '../project/revisions.ts';
import { prepareShared } from '../project/shared-files.ts';

export const changesProject = true;

/** `rollback`: an earlier revision, with the files that it was deployed with; those of the project stay as they are. */
export async function run(
  context: Context,
  args: readonly (string | undefined)[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const count = Number(args[0] ?? 1);
  if (!Number.isInteger(count) || count < 1 || count > 100)
    throw new CliError('bad_argument', 'N must be a whole number from 1 to 100', {
      found: String(args[0]),
      exitCode: EXIT.usage,
    });
  const now = await loadPlace(context);
  if (now.project.config.platform !== 'gcp')
    throw notYet(`rollback on platform ${now.project.config.platform}`);
  const platform = await loadPlatform(now.project.config.platform);
  const before = await requireDeployment(now, platform);
  const { revision, osImage, files } = await readRevision(now.project, before, count);
  const place: Place = {
    ...now,
    project: { ...now.project, config: { ...now.project.config, os_image: osImage } },
  };
  const current = await prepareShared(context, place.config, place.project);
  const { '.encrypted-env': _, ...rest } = current.files;
  const prepared = {
    ...current,
    files: { ...rest, ...files },
    composeHash: revision.compose_hash,
    osImageHash: revision.os_image_hash,
  };
  await platform.check(place, prepared, before, { force: flags['force'] === true });
  const { chain } = place.config;
  if (chain !== undefined && flags['policyCheck'] !== false && place.project.config.key_provider === 'kms')
    await checkPolicy(chain, prepared);
  context.info(`Going back to compose hash ${revision.compose_hash}, deployed ${revision.time}`);
  const options = { before, recreate: false, data: 'keep', wait: flags['wait'] !== false } as const;
  const state = await platform.deploy(place, prepared, options);
  context.print(`Deployed ${state.instance_name} at compose hash ${state.compose_hash}`);
  context.result({
    compose_hash: state.compose_hash,
    os_image_hash: state.os_image_hash,
    status: state.status,
  });
  return undefined;
}

import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { loadPlace } from '../platforms/load-place.ts';

import { prepareProject } from '../platforms/prepare-project.ts';
import { requireChain, setComposeHash } from './app-contract.ts';
import { sendingOptions } from './sending-options.ts';

/** Allows or revokes a compose hash, by default that of the project's files. */
export async function changeComposeHash(
  context: Context,
  given: string | undefined,
  allowed: boolean,
  flags: Readonly<Record<string, unknown>>,
): Promise<void> {
  const { maxCost, limited } = sendingOptions(context, flags);
  const { config, project } = await loadPlace(context);
  const chain = requireChain(config.chain);
  const hash = given?.replace(/^0x/i, '').toLowerCase();
  if (hash !== undefined && !/^[0-9a-f]{64}$/.test(hash))
    throw new CliError('bad_argument', 'A compose hash has 64 hex digits', {
      found: given ?? '',
      exitCode: EXIT.usage,
    });
  const prepared = await prepareProject(context, config, project);
  const composeHash = hash ?? prepared.appPolicyHash;
  await limited((within) => setComposeHash(within, chain, maxCost, prepared.appId, composeHash, allowed));
  context.print(`${allowed ? 'Allowed' : 'Revoked'} compose hash ${composeHash}`);
  context.result({ app_id: prepared.appId, compose_hash: composeHash, allowed });
}

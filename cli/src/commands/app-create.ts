import { readApp, requireChain } from '../chain/app-contract.ts';
import { connectReader } from '../chain/connect.ts';
import { createProjectApp } from '../chain/create-app.ts';
import { sendingOptions } from '../chain/sending-options.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { loadPlace } from '../platforms/load-place.ts';

import { prepareProject } from '../platforms/prepare-project.ts';

export const changesProject = true;

/** `app create`: makes the app's contract; its address becomes the project's app id. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const { maxCost, limited } = sendingOptions(context, flags);
  const { config, project } = await loadPlace(context);
  const chain = requireChain(config.chain);
  // An enclave's image holds the app id: what is allowed is known once the contract has its address.
  const prepared =
    project.config.platform === 'nitro' ? undefined : await prepareProject(context, config, project);
  const known = prepared?.appId ?? project.config.app_id;
  const before =
    known === undefined
      ? undefined
      : await limited(async (within) =>
          readApp(
            within,
            await connectReader(chain, within),
            known,
            prepared?.appPolicyHash ?? '00'.repeat(32),
          ),
        );
  if (before?.registered && before.deployed)
    throw new CliError('exists', `App 0x${known} has its contract already`, {
      hint: 'Allow another compose file with dstack-cloud app allow',
    });
  const hash = flags['composeHash'] === false ? undefined : prepared?.appPolicyHash;
  const appId = await limited((within) => createProjectApp(within, project, chain, maxCost, hash));
  context.print(`Created app contract 0x${appId}`);
  context.info(hash === undefined ? 'It allows no compose hash yet' : `It allows compose hash ${hash}`);
  context.result({ app_id: appId, compose_hash: hash ?? null });
  return undefined;
}

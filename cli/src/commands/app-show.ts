import { readApp, requireReader } from '../chain/app-contract.ts';
import type { Context } from '../context.ts';
import { loadPlace } from '../platforms/load-place.ts';

import { prepareProject } from '../platforms/prepare-project.ts';

/** `app show`: what the chain says about the project's app and its present compose file. */
export async function run(context: Context): Promise<undefined> {
  const { config, project } = await loadPlace(context);
  const prepared = await prepareProject(context, config, project);
  const app = await readApp(
    context,
    await requireReader(context, config.chain),
    prepared.appId,
    prepared.appPolicyHash,
  );
  const say = (value: boolean | null): string => (value === null ? '-' : value ? 'yes' : 'no');
  context.print(`app-id:               0x${prepared.appId}`);
  context.print(`registered:           ${say(app.registered)}`);
  context.print(`contract:             ${app.deployed ? 'deployed' : 'none'}`);
  context.print(`owner:                ${app.owner ?? '-'}`);
  context.print(`compose-hash:         ${prepared.appPolicyHash}`);
  context.print(`compose-hash allowed: ${say(app.compose_hash_allowed)}`);
  context.print(`any device allowed:   ${say(app.allow_any_device)}`);
  context.result({ app_id: prepared.appId, compose_hash: prepared.appPolicyHash, ...app });
  return undefined;
}

import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { loadProject } from '../project/app-config.ts';
import { prepareShared } from '../project/shared-files.ts';

/** `measure`: what a deploy would measure, before it happens; touches nothing. */
export async function run(context: Context): Promise<undefined> {
  const project = await loadProject(context);
  const prepared = await prepareShared(context, await loadGlobalConfig(context), project);
  for (const warning of prepared.warnings) context.warn(warning);
  const instance = prepared.instanceId ?? '(drawn by the guest at each boot)';
  context.print(`compose-hash:  ${prepared.composeHash}`);
  context.print(`os-image-hash: ${prepared.osImageHash}`);
  context.print(`app-id:        ${prepared.appId}`);
  context.print(`instance-id:   ${instance || '(none)'}`);
  context.print(`allowed-envs:  ${prepared.allowedEnvs.join(' ') || '(none)'}`);
  context.result({
    compose_hash: prepared.composeHash,
    os_image_hash: prepared.osImageHash,
    app_id: prepared.appId,
    instance_id: prepared.instanceId ?? null,
    allowed_envs: prepared.allowedEnvs,
  });
  return undefined;
}

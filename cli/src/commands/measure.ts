import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { loadProject } from '../project/app-config.ts';
import { prepareShared } from '../project/shared-files.ts';

/** `measure`: what a deploy would measure, before it happens; of an enclave the image is built for it. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const project = await loadProject(context);
  const config = await loadGlobalConfig(context);
  const isNitro = project.config.platform === 'nitro';
  if (flags['fetchRootCa'] === true) {
    if (!isNitro)
      throw new CliError('usage', '--fetch-root-ca is for platform nitro', { exitCode: EXIT.usage });
    const { fetchRootCa } = await import('../kms/fetch-root-ca.ts');
    await fetchRootCa(context, config, project);
  }
  if (isNitro) {
    const { prepareEnclave } = await import('../enclave/prepare-enclave.ts');
    const { printEnclave, enclaveResult } = await import('../enclave/print-enclave.ts');
    const prepared = await prepareEnclave(context, config, project);
    for (const warning of prepared.warnings) context.warn(warning);
    printEnclave(context, prepared);
    context.result(enclaveResult(prepared));
    return undefined;
  }
  const prepared = await prepareShared(context, config, project);
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

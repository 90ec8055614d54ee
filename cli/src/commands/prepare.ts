import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { loadProject } from '../project/app-config.ts';
import { prepareShared, writeShared } from '../project/shared-files.ts';

export const changesProject = true;

/** `prepare`: writes `shared/` without network, so without the sealed environment. */
export async function run(context: Context): Promise<undefined> {
  const project = await loadProject(context);
  const prepared = await prepareShared(context, await loadGlobalConfig(context), project);
  for (const warning of prepared.warnings) context.warn(warning);
  await writeShared(project, prepared.files);
  const files = Object.keys(prepared.files).map((name) => `shared/${name}`);
  for (const file of files) context.print(file);
  context.result({ files, compose_hash: prepared.composeHash, app_id: prepared.appId });
  return undefined;
}

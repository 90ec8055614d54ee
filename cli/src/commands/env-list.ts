import type { Context } from '../context.ts';
import { loadProject } from '../project/app-config.ts';
import { readEnvFile } from '../project/env-file.ts';

/** `env list`: names only; values stay in the file. */
export async function run(context: Context): Promise<undefined> {
  const { vars, warnings } = await readEnvFile(await loadProject(context));
  for (const warning of warnings) context.warn(warning);
  for (const { key } of vars) context.print(key);
  context.result({ names: vars.map(({ key }) => key) });
  return undefined;
}

import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { loadProject } from '../project/app-config.ts';
import { changeEnvFile } from '../project/change-env-file.ts';

export const changesProject = true;

/** `env unset NAME`. */
export async function run(context: Context, [name]: readonly string[]): Promise<undefined> {
  const changed = await changeEnvFile(await loadProject(context), name as string, undefined);
  if (!changed) throw new CliError('bad_argument', `.env has no variable ${name}`);
  context.print(`Removed ${name}`);
  context.result({ name, set: false });
  return undefined;
}

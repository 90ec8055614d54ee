import type { Command } from 'commander';
import { completionScript, type Shell } from '../completion/completion-script.ts';
import type { Context } from '../context.ts';

/** `completion SHELL`: the script goes to stdout. */
export async function run(
  context: Context,
  [shell]: readonly string[],
  program: Command,
): Promise<undefined> {
  const script = completionScript(program, shell as Shell);
  context.result({ shell, script });
  for (const line of script.trimEnd().split('\n')) context.print(line);
  return undefined;
}

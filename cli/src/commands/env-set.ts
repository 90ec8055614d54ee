import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { loadProject } from '../project/app-config.ts';
import { changeEnvFile } from '../project/change-env-file.ts';

const MAX_VALUE_BYTES = 128 * 1024;

/** `env set NAME`: the value comes from stdin, never from the command line, where others could read it. */
export async function run(context: Context, [name]: readonly string[]): Promise<undefined> {
  if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name as string))
    throw new CliError('bad_argument', `${name} is no name of a variable`, {
      expected: 'letters, digits and _, not starting with a digit',
      exitCode: EXIT.usage,
    });
  if (process.stdin.isTTY) context.info(`Type the value of ${name}, then Enter and Ctrl-D`);
  const value = (await readStdin()).replace(/\r?\n$/, '');
  if (/[\r\n]/.test(value))
    throw new CliError('bad_env', `The value of ${name} has several lines; .env holds one line a variable`);
  if (value !== value.trim())
    context.warn(`Blanks around the value of ${name} are dropped when .env is read`);
  await changeEnvFile(await loadProject(context), name as string, value);
  context.print(`Set ${name}`);
  context.info('Next: dstack-cloud deploy');
  context.result({ name, set: true });
  return undefined;
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_VALUE_BYTES) throw new CliError('bad_env', 'The value is larger than 128 KiB');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

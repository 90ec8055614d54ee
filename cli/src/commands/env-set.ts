import { ENV_LIMITS, isEnvName } from '@dstack-cloud/app';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { loadProject } from '../project/app-config.ts';
import { changeEnvFile } from '../project/change-env-file.ts';
import { decodeEnv } from '../project/decode-env.ts';
import { readSecret } from '../read-secret.ts';

/** A line end of the terminal is no part of the value. */
const MAX_INPUT_BYTES: number = ENV_LIMITS.valueBytes + 2;

export const changesProject = true;

/** `env set NAME`: the value comes from stdin, never from the command line, where others could read it. */
export async function run(context: Context, [name]: readonly string[]): Promise<undefined> {
  if (!isEnvName(name as string))
    throw new CliError('bad_argument', `${name} is no name of a variable`, {
      expected: 'letters, digits and _, not starting with a digit, at most 255 characters',
      exitCode: EXIT.usage,
    });
  const value = (await readValue(context, name as string)).replace(/\r?\n$/, '');
  await changeEnvFile(await loadProject(context), name as string, value);
  context.print(`Set ${name}`);
  context.info('Next: dstack-cloud deploy');
  context.result({ name, set: true });
  return undefined;
}

/** What is typed is not shown: it would stay in the terminal's scrollback. */
async function readValue(context: Context, name: string): Promise<string> {
  if (!process.stdin.isTTY) return await readStdin();
  context.info(`Type the value of ${name}, then Enter; it is not shown`);
  return decodeEnv(await readSecret(process.stdin, MAX_INPUT_BYTES), 'The value');
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_INPUT_BYTES) throw new CliError('bad_env', 'The value is larger than 128 KiB');
    chunks.push(chunk);
  }
  return decodeEnv(Buffer.concat(chunks), 'The value');
}

import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { printableMessage } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import { ask } from '../ask.ts';
import { parseGlobalConfig, readGlobalConfig } from '../config/global-config.ts';
import { CONFIG_TEMPLATE } from '../config/template.ts';
import type { Context } from '../context.ts';
import { CliError, messageOf } from '../errors.ts';

/** Exit status of a shell that cannot run its command. */
const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;

/** `config-edit`: makes the global configuration when absent, opens the editor, checks the result. */
export async function run(context: Context): Promise<undefined> {
  const path = context.configPath;
  if (!isThere(path)) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFileAtomic(path, CONFIG_TEMPLATE, { mode: 0o600 });
    context.info(`Created ${path}`);
  }
  for (;;) {
    await edit(context, path);
    try {
      const { warnings } = parseGlobalConfig((await readGlobalConfig(path)) ?? '', path);
      for (const warning of warnings) context.warn(warning);
      context.result({ path, valid: true });
      return undefined;
    } catch (error) {
      if (!(await again(context, error))) throw error;
    }
  }
}

async function edit(context: Context, path: string): Promise<void> {
  const command = context.env['VISUAL'] || context.env['EDITOR'] || 'vi';
  const failed = (why: string, cause?: unknown): CliError =>
    new CliError('no_editor', why, {
      ...(cause === undefined ? {} : { cause }),
      hint: `Correct EDITOR (or VISUAL), or edit ${path} yourself`,
    });
  const code = await new Promise<number | null>((resolve, reject) => {
    // A shell reads the command, as for git and crontab: it may hold arguments and quotes.
    const child = spawn('/bin/sh', ['-c', `${command} "$@"`, command, path], { stdio: 'inherit' });
    child.once('error', (error) =>
      reject(failed(`Cannot start the editor ${command}: ${messageOf(error)}`, error)),
    );
    child.once('exit', resolve);
  });
  if (code === NOT_FOUND || code === NOT_EXECUTABLE) throw failed(`Cannot start the editor ${command}`);
  if (code !== 0) throw failed(`The editor ${command} ended with ${code ?? 'a signal'}`);
}

/** Asks whether to open the editor again; a script gets the error. */
async function again(context: Context, error: unknown): Promise<boolean> {
  if (!context.interactive || context.yes) return false;
  context.stderr(`${printableMessage(messageOf(error))}\n`);
  return /^(y|yes|)$/i.test(await ask('Edit again? [Y/n]: '));
}

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { printableMessage } from '@dstack-cloud/encoding';
import { ask } from '../ask.ts';
import { parseGlobalConfig } from '../config/global-config.ts';
import { CONFIG_TEMPLATE } from '../config/template.ts';
import type { Context } from '../context.ts';
import { CliError, messageOf } from '../errors.ts';

/** `config-edit`: makes the global configuration when absent, opens the editor, checks the result. */
export async function run(context: Context): Promise<undefined> {
  const path = context.configPath;
  if (!existsSync(path)) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFileAtomic(path, CONFIG_TEMPLATE, { mode: 0o600 });
    context.info(`Created ${path}`);
  }
  for (;;) {
    await edit(context, path);
    try {
      const { warnings } = parseGlobalConfig(await readFile(path, 'utf8'), path);
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
  const [program, ...args] = command.split(/\s+/).filter((word) => word !== '') as [string, ...string[]];
  const code = await new Promise<number | null>((resolve, reject) => {
    const child = spawn(program, [...args, path], { stdio: 'inherit' });
    child.once('error', (error) =>
      reject(
        new CliError('no_editor', `Cannot start the editor ${program}: ${messageOf(error)}`, {
          hint: `Set EDITOR, or edit ${path} yourself`,
        }),
      ),
    );
    child.once('exit', resolve);
  });
  if (code !== 0) throw new CliError('no_editor', `The editor ${program} ended with ${code ?? 'a signal'}`);
}

/** Asks whether to open the editor again; a script gets the error. */
async function again(context: Context, error: unknown): Promise<boolean> {
  if (!context.interactive || context.yes) return false;
  context.stderr(`${printableMessage(messageOf(error))}\n`);
  return /^(y|yes|)$/i.test(await ask('Edit again? [Y/n]: '));
}

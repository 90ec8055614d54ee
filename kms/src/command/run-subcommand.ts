import { parseArgs } from 'node:util';
import { printableJson } from '@dstack-cloud/encoding';
import { destination } from 'pino';
import { logLevel } from '../config/check-config.ts';
import { loadConfig } from '../config/load-config.ts';
import { createLog } from '../telemetry/log.ts';
import { backupCommand } from './backup-command.ts';
import { COMMON_OPTIONS, type Command } from './command.ts';
import { inspectCommand } from './inspect-command.ts';
import { restoreCommand } from './restore-command.ts';
import { rootsCommand } from './roots-command.ts';
import { rotateRootCommand } from './rotate-root-command.ts';

const COMMANDS: Readonly<Record<string, Command>> = {
  inspect: inspectCommand,
  backup: backupCommand,
  restore: restoreCommand,
  roots: rootsCommand,
  'rotate-root': rotateRootCommand,
};

/** The subcommands' part of the help text. */
export const SUBCOMMAND_USAGE: string = Object.values(COMMANDS)
  .map(({ usage, summary }) => `  ${usage}\n                  ${summary}`)
  .join('\n');

/** Runs the subcommand that the arguments name; false when they name none. @throws KmsError, RpcError */
export async function runSubcommand(args: string[]): Promise<boolean> {
  const found = find(args);
  if (found === undefined) return false;
  await found.command.run(found.args, {
    load: (file) => loadConfig(file, process.env),
    now: () => Date.now() / 1000,
    log: createLog(logLevel(process.env), destination({ dest: 2, sync: true })),
    print: (result) => process.stdout.write(`${printableJson(JSON.stringify(result))}\n`),
  });
  return true;
}

/** The command, and the arguments without its name: it has options of its own. */
function find(args: string[]): { command: Command; args: string[] } | undefined {
  const { tokens } = parseArgs({
    args,
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: COMMON_OPTIONS,
  });
  const name = tokens.find((token) => token.kind === 'positional');
  const command = name && Object.hasOwn(COMMANDS, name.value) ? COMMANDS[name.value] : undefined;
  if (command === undefined || name === undefined) return undefined;
  return { command, args: args.filter((_, index) => index !== name.index) };
}

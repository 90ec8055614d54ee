import { parseArgs } from 'node:util';
import { nearestName } from '@dstack-cloud/encoding';

export const USAGE = `dstack-vmm: confidential machines on this host

The service, which makes machines of driver "vm" (an OS image under QEMU) for whoever reaches its socket:

  dstack-vmm [-c FILE] [serve]     serve until SIGTERM; machines live on
  dstack-vmm [-c FILE] check-config [--print-config]
                                   what serve would refuse in its configuration
  dstack-vmm [-c FILE] run VM.json [--workdir DIR] [--dry-run]
                                   one machine in the foreground

One machine by its folder, of driver "vm" or "process" (a simulated TEE, no isolation):

  dstack-vmm list RUN_DIR          machines below a folder, as JSON
  dstack-vmm status DIR            one machine, as JSON
  dstack-vmm start|stop|remove DIR
  dstack-vmm stop DIR --force      at once, without asking the guest
  dstack-vmm logs DIR [-n LINES] [--container NAME]
  dstack-vmm supervise DIR         run a machine in the foreground until SIGTERM

Options:

  -c, --config FILE    vmm.toml; without it ./vmm.toml or /etc/dstack/vmm.toml, else defaults
  -n, --lines LINES    last lines of a log, 100 by default
  -h, --help, -V, --version

Examples:

  dstack-vmm check-config -c vmm.toml && dstack-vmm serve -c vmm.toml
  curl --unix-socket vmm.sock 'http://vmm/prpc/Status?json' -d '{}'
  dstack-vmm run VM.json --dry-run
  dstack-vmm logs ~/.dstack-vmm/vm/ID -n 20

Exit codes: 0 done, 1 failed, with the reason on standard error, 2 wrong usage. \`run\` ends as its machine does.
`;

/** A command line that nothing can be made of. */
export class UsageError extends Error {}

type Command =
  | 'serve'
  | 'check-config'
  | 'run'
  | 'list'
  | 'status'
  | 'start'
  | 'stop'
  | 'remove'
  | 'logs'
  | 'supervise';

const COMMANDS: Readonly<
  Record<Command, { readonly argument: string | undefined; readonly options: readonly string[] }>
> = {
  serve: { argument: undefined, options: ['config', 'print-config'] },
  'check-config': { argument: undefined, options: ['config', 'print-config'] },
  run: {
    argument: 'the file of a VM configuration',
    options: ['config', 'workdir', 'dry-run', 'print-config'],
  },
  list: { argument: 'a folder of machines', options: [] },
  status: { argument: 'the folder of a machine', options: [] },
  start: { argument: 'the folder of a machine', options: [] },
  stop: { argument: 'the folder of a machine', options: ['force'] },
  remove: { argument: 'the folder of a machine', options: [] },
  logs: { argument: 'the folder of a machine', options: ['lines', 'container'] },
  supervise: { argument: 'the folder of a machine', options: ['when-told'] },
};

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  workdir: { type: 'string' },
  'dry-run': { type: 'boolean' },
  'print-config': { type: 'boolean' },
  force: { type: 'boolean' },
  lines: { type: 'string', short: 'n' },
  container: { type: 'string' },
  'when-told': { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const;

/** What the user wants. */
export interface CommandLine {
  readonly command: Command | 'help' | 'version';
  /** File or folder; empty for commands without. */
  readonly argument: string;
  readonly config: string | undefined;
  readonly workDir: string | undefined;
  readonly dryRun: boolean;
  readonly printConfig: boolean;
  readonly force: boolean;
  readonly lines: number;
  readonly container: string | undefined;
  readonly whenTold: boolean;
}

/** Reads the arguments of the program; without a command it serves. @throws UsageError */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const { values, positionals } = parsed(args);
  const [name = 'serve', ...given] = positionals;
  const wanted = { ...settings(values), argument: given[0] ?? '' };
  if (values.help) return { ...wanted, command: 'help' };
  if (values.version) return { ...wanted, command: 'version' };
  if (!isCommand(name)) {
    const nearest = nearestName(name, Object.keys(COMMANDS));
    const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`;
    throw new UsageError(`There is no command ${shown(name)}${hint}`);
  }
  const { argument, options } = COMMANDS[name];
  const foreign = Object.keys(values).find((option) => !options.includes(option));
  if (foreign !== undefined) throw new UsageError(`${name} has no option --${foreign}`);
  if (argument !== undefined && wanted.argument === '') throw new UsageError(`${name} needs ${argument}`);
  const extra = given[argument === undefined ? 0 : 1];
  if (extra !== undefined) throw new UsageError(`${name} takes no ${shown(extra)}`);
  return { ...wanted, command: name };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options: OPTIONS });
  } catch (error) {
    // Its first sentence says what is wrong.
    throw new UsageError((error as Error).message.split('. ')[0]);
  }
}

function settings(values: ReturnType<typeof parsed>['values']): Omit<CommandLine, 'command' | 'argument'> {
  const lines = values.lines ?? '100';
  if (!/^\d{1,6}$/.test(lines))
    throw new UsageError(`--lines takes a number from 0 to 999999, not ${shown(lines)}`);
  return {
    config: values.config,
    workDir: values.workdir,
    dryRun: values['dry-run'] === true,
    printConfig: values['print-config'] === true,
    force: values.force === true,
    lines: Number(lines),
    container: values.container,
    whenTold: values['when-told'] === true,
  };
}

function isCommand(name: string): name is Command {
  return Object.hasOwn(COMMANDS, name);
}

const shown = (text: string): string => JSON.stringify(text.slice(0, 80));

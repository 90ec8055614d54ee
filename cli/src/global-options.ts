import { CliError, EXIT } from './errors.ts';

/** Flags that work before and after the subcommand. */
export interface GlobalOptions {
  readonly verbose: boolean;
  readonly quiet: boolean;
  readonly json: boolean;
  readonly yes: boolean;
  readonly color: boolean;
  /** "Not found" and "not deployed" end with 3 instead of the original's 0 or 1. */
  readonly exitCode: boolean;
  readonly chdir: string | undefined;
  readonly config: string | undefined;
}

const FLAGS = new Map<string, Partial<GlobalOptions>>(
  Object.entries({
    '-v': { verbose: true },
    '--verbose': { verbose: true },
    '-q': { quiet: true },
    '--quiet': { quiet: true },
    '--json': { json: true },
    '-y': { yes: true },
    '--yes': { yes: true },
    '--no-color': { color: false },
    '--exit-code': { exitCode: true },
  }),
);
const VALUES = new Map<string, 'chdir' | 'config'>(
  Object.entries({
    '-C': 'chdir',
    '--directory': 'chdir',
    '--config': 'config',
  } as const),
);

/** Help text of the flags above. */
export const GLOBAL_HELP = `
Global options, before or after the command:
  -C, --directory DIR  project directory
      --config PATH    global configuration (env DSTACK_CLOUD_CONFIG)
      --json           one JSON document on stdout
  -y, --yes            answer yes to every question
  -q, --quiet          no progress
  -v, --verbose        more detail, and stack traces
      --no-color       plain text
      --exit-code      exit with 3 when nothing is found or deployed
  -h, --help           this text
      --version        version`;

/** Takes the global flags out of an argument list, wherever they stand before `--`. */
export function splitGlobalOptions(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
): { options: GlobalOptions; rest: string[] } {
  let options: GlobalOptions = {
    verbose: false,
    quiet: false,
    json: false,
    yes: false,
    color: (env['NO_COLOR'] ?? '') === '',
    exitCode: false,
    chdir: undefined,
    config: undefined,
  };
  const rest: string[] = [];
  for (let i = 0; i < argv.length; i += 1) {
    const word = argv[i] as string;
    if (word === '--') {
      rest.push(...argv.slice(i));
      break;
    }
    const [name, inline] = splitInline(word);
    const key = VALUES.get(name);
    const flag = FLAGS.get(word);
    if (flag !== undefined) options = { ...options, ...flag };
    else if (key !== undefined) {
      if (inline === undefined) i += 1;
      const value = inline ?? argv[i];
      if (value === undefined || value === '')
        throw new CliError('usage', `${name} needs a value`, { exitCode: EXIT.usage });
      options = { ...options, [key]: value };
    } else rest.push(word);
  }
  return { options, rest };
}

function splitInline(word: string): [string, string | undefined] {
  const equals = word.indexOf('=');
  return word.startsWith('--') && equals > 0
    ? [word.slice(0, equals), word.slice(equals + 1)]
    : [word, undefined];
}

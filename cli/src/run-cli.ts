import { surviveClosedOutput } from '@dstack-cloud/files';
import { CommanderError } from 'commander';
import { type Context, createContext, type Host, jsonText } from './context.ts';
import { CliError, EXIT } from './errors.ts';
import { splitGlobalOptions } from './global-options.ts';
import { createProgram } from './program.ts';
import { reportError } from './report-error.ts';

/** What other programs call these commands. */
const OTHER_NAMES: ReadonlyMap<string, string> = new Map([
  ['destroy', 'remove'],
  ['delete', 'remove'],
  ['rm', 'remove'],
  ['up', 'deploy'],
  ['down', 'stop'],
  ['init', 'new NAME'],
]);

/** Runs one command line and returns the exit code. `host` is for tests. */
export async function runCli(argv: readonly string[], host: Host = processHost()): Promise<number> {
  let context: Context | undefined;
  try {
    const { options, rest } = splitGlobalOptions(argv, host.env);
    context = createContext(host, options);
    let exitCode: number = EXIT.ok;
    const program = createProgram(context, (code) => {
      exitCode = code;
    });
    if (rest.length === 0) {
      host.stdout(program.helpInformation());
      return EXIT.ok;
    }
    await program.parseAsync(rest, { from: 'user' });
    return exitCode;
  } catch (error) {
    const json = context?.json ?? wantsJson(argv);
    if (error instanceof CommanderError) {
      const instead = OTHER_NAMES.get(/^error: unknown command '(\w+)'/.exec(error.message)?.[1] ?? '');
      if (instead !== undefined) host.stderr(`Next: dstack-cloud ${instead}\n`);
      return commanderExit(error, host, json);
    }
    if (host.signal.aborted) return EXIT.interrupted;
    return reportError(error, host, { json, verbose: context?.verbose ?? false });
  }
}

/** Commander has printed its message for people; help and version are no failures. */
function commanderExit(error: CommanderError, host: Host, json: boolean): number {
  if (error.exitCode === 0 || error.code === 'commander.help') return EXIT.ok;
  const message = error.message.replace(/^error: /, '');
  if (json) host.stdout(jsonText({ error: { code: 'usage', message, hint: 'See dstack-cloud --help' } }));
  return EXIT.usage;
}

/** Whether an answer is to be JSON, of a command line that cannot be read to its end. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end < 0 ? argv.length : end).includes('--json');
}

function processHost(): Host {
  const interrupt = new AbortController();
  process.once('SIGINT', () => {
    interrupt.abort(new CliError('interrupted', 'Interrupted', { exitCode: EXIT.interrupted }));
    // A second Ctrl-C ends at once.
    process.once('SIGINT', () => process.exit(EXIT.interrupted));
  });
  // A reader that went away (`| head`) is no error, and no reason to leave a deploy half way.
  const unread = new AbortController();
  surviveClosedOutput(() => unread.abort());
  return {
    cwd: process.cwd(),
    env: process.env,
    interactive: process.stdin.isTTY === true && process.stderr.isTTY === true,
    terminal: process.stdout.isTTY === true,
    now: () => new Date(),
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    signal: interrupt.signal,
    unread: unread.signal,
  };
}

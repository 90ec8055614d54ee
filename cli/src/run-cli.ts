import { CommanderError } from 'commander';
import { type Context, createContext, type Host } from './context.ts';
import { CliError, EXIT } from './errors.ts';
import { splitGlobalOptions } from './global-options.ts';
import { createProgram } from './program.ts';
import { reportError } from './report-error.ts';

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
    if (error instanceof CommanderError) return commanderExit(error);
    if (host.signal.aborted) return EXIT.interrupted;
    return reportError(error, host, context);
  }
}

/** Commander has printed its message; help and version are no failures. */
function commanderExit(error: CommanderError): number {
  return error.exitCode === 0 || error.code === 'commander.help' ? EXIT.ok : EXIT.usage;
}

function processHost(): Host {
  const interrupt = new AbortController();
  process.once('SIGINT', () => {
    interrupt.abort(new CliError('interrupted', 'Interrupted', { exitCode: EXIT.interrupted }));
    // A second Ctrl-C ends at once.
    process.once('SIGINT', () => process.exit(EXIT.interrupted));
  });
  // A reader that went away (`| head`) is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok);
  });
  return {
    cwd: process.cwd(),
    env: process.env,
    interactive: process.stdin.isTTY === true && process.stderr.isTTY === true,
    now: () => new Date(),
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    signal: interrupt.signal,
  };
}

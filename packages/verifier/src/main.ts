import { printableMessage } from '@dstack-cloud/encoding';
import { EXIT, processOutput } from './command/output.ts';
import { isUsageError, VerifierError } from './errors.ts';

type Command = (argv: readonly string[], output: typeof processOutput) => Promise<number | undefined>;

/** Loaded when called, so that a command starts fast. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  verify: async () => (await import('./command/verify-command.ts')).verifyCommand,
  eventlog: async () => (await import('./command/eventlog-command.ts')).eventlogCommand,
  bundle: async () => (await import('./command/bundle-command.ts')).bundleCommand,
};

async function main(argv: readonly string[]): Promise<number | undefined> {
  const [name = '', ...rest] = argv;
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  const asksForHelp = load !== undefined && rest.some((argument) => /^(-h|--help)$/.test(argument));
  if (load && !asksForHelp) return (await load())(rest, processOutput);
  if (!load && name !== '' && !name.startsWith('-')) {
    throw new VerifierError(
      'usage',
      `Unknown command ${name}; known are ${Object.keys(COMMANDS).join(', ')}`,
    );
  }
  const { serveCommand } = await import('./command/serve-command.ts');
  return serveCommand(asksForHelp ? ['--help'] : argv, processOutput);
}

try {
  const code = await main(process.argv.slice(2));
  if (code !== undefined) process.exitCode = code;
} catch (error) {
  const isUsage =
    (error instanceof VerifierError && isUsageError(error)) ||
    (error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'));
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`Error: ${printableMessage(message)}\n`);
  process.exitCode = isUsage ? EXIT.usage : EXIT.bad;
}

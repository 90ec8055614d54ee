import { EXIT } from './errors.ts';
import { runCli } from './run-cli.ts';

const code = await runCli(process.argv.slice(2));
process.exitCode = code;
// What was given up may go on waiting for an answer.
if (code === EXIT.timedOut || code === EXIT.interrupted) setTimeout(() => process.exit(), 1_000).unref();

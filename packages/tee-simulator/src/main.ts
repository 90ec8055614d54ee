import { collateralCommand } from './command/collateral-command.ts';
import { imageCommand } from './command/image-command.ts';
import { rootCommand } from './command/root-command.ts';
import { tdxCommand } from './command/tdx-command.ts';
import { SimulatorError } from './errors.ts';

const HELP = `dstack-tee-simulator: simulated TEEs for development. Nothing here protects anything.

  dstack-tee-simulator root --seed-file FILE
      Prints the test root (PEM). Evidence is refused unless a verifier's configuration names it.

  dstack-tee-simulator image [--image NAME] [--cpus N] [--memory BYTES]
      Prints the measurements of a simulated image and its vm_config as one JSON line.

  dstack-tee-simulator collateral --seed-file FILE [--port PORT] [--host 127.0.0.1]
      [--tcb-status UpToDate] [--expired] [--exit-with-stdin]
      Serves the seed's collateral over the paths of Intel's PCS v4. Port 0, the default, is any free one.

  dstack-tee-simulator tdx --seed-file FILE --socket PATH --state FILE [--machine NAME]
      [--image NAME] [--cpus N] [--memory BYTES] [--quote-version 4|5] [--debug-td] [--exit-with-stdin]
      One boot of a simulated TD: configfs-tsm, RTMR and CCEL files on a unix socket. RTMR3 starts at zero.

The seed file holds 32 bytes or 64 hex digits; it is public, and decides all keys. The services print one JSON line
when they are ready and stop at SIGTERM, or with --exit-with-stdin when standard input ends.
`;

const COMMANDS: Readonly<Record<string, (argv: readonly string[]) => Promise<void>>> = {
  collateral: collateralCommand,
  image: imageCommand,
  root: rootCommand,
  tdx: tdxCommand,
};

async function main(argv: readonly string[]): Promise<number> {
  const [name = '', ...rest] = argv;
  if (argv.includes('--help') || argv.includes('-h') || name === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) {
    process.stderr.write(
      `dstack-tee-simulator: ${name ? `unknown command "${name}"` : 'no command'}; see --help\n`,
    );
    return 2;
  }
  try {
    await command(rest);
    return 0;
  } catch (error) {
    if (!(error instanceof SimulatorError)) throw error;
    process.stderr.write(`dstack-tee-simulator: ${error.message}\n`);
    return error.code === 'argument' ? 2 : 1;
  }
}

process.exitCode = await main(process.argv.slice(2));

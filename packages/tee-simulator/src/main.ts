import { SimulatorError } from './errors.ts';

const HELP = `dstack-tee-simulator: simulated TEEs for development. Nothing here protects anything.

  dstack-tee-simulator root --seed-file FILE [--kind tdx|gcp-tpm|nitro]
      Prints a test root (PEM). Evidence is refused unless a verifier's configuration names it.

  dstack-tee-simulator image [--image NAME | --image-folder DIR [--qemu-version V]] [--cpus N] [--memory BYTES]
      Prints the measurements of a simulated image, or of an image's files, and its vm_config as one JSON line.

  dstack-tee-simulator collateral --seed-file FILE [--port PORT] [--host 127.0.0.1]
      [--tcb-status UpToDate] [--expired] [--exit-with-stdin]
      Serves the seed's collateral over the paths of Intel's PCS v4. Port 0, the default, is any free one.

  dstack-tee-simulator tdx --seed-file FILE --socket PATH --state FILE [--machine NAME]
      [--image NAME | --image-folder DIR [--qemu-version V]] [--cpus N] [--memory BYTES]
      [--quote-version 4|5] [--debug-td] [--exit-with-stdin]
      One boot of a simulated TD: configfs-tsm, RTMR and CCEL files on a unix socket. RTMR3 starts at zero.

  dstack-tee-simulator key-provider --seed-file FILE [--port PORT] [--host 127.0.0.1] [--exit-with-stdin]
      A simulated SGX key provider (key_provider local): gives each TD of the seed's machines a key of its own.

  dstack-tee-simulator nsm --seed-file FILE --socket PATH [--machine NAME] [--image NAME | --pcr0 HEX --pcr1 HEX --pcr2 HEX] [--debug-enclave]
      [--exit-with-stdin]
      A simulated Nitro security module: the CBOR of /dev/nsm on a unix socket, each message after its length.

  dstack-tee-simulator gcp-tpm --seed-file FILE --tpm unix:PATH|tcp:HOST:PORT --event-log FILE [--machine NAME]
      [--image NAME]
      Makes a fresh software TPM (swtpm) one of GCE: certified attestation key in NV, PCRs and log of a boot.
      Prints the vm_config and the certificates as one JSON line.

The seed file holds 32 bytes or 64 hex digits; it decides all keys and is not secret: whoever has it can
forge any evidence under its roots. The services print one JSON line when they are ready and stop at SIGTERM, or with --exit-with-stdin when standard input ends.
`;

type Command = (argv: readonly string[]) => Promise<void>;

/** Loaded when they are called: a machine starts faster without the parts of the others. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  collateral: async () => (await import('./command/collateral-command.ts')).collateralCommand,
  'gcp-tpm': async () => (await import('./command/gcp-tpm-command.ts')).gcpTpmCommand,
  image: async () => (await import('./command/image-command.ts')).imageCommand,
  'key-provider': async () => (await import('./command/key-provider-command.ts')).keyProviderCommand,
  nsm: async () => (await import('./command/nsm-command.ts')).nsmCommand,
  root: async () => (await import('./command/root-command.ts')).rootCommand,
  tdx: async () => (await import('./command/tdx-command.ts')).tdxCommand,
};

const VERSION = 'dstack-tee-simulator 0.1.0';

async function main(argv: readonly string[]): Promise<number> {
  const [name = '', ...rest] = argv;
  if (argv.includes('--help') || argv.includes('-h') || name === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  if (name === '--version' || name === '-V') {
    process.stdout.write(`${VERSION}\n`);
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
    await (await command())(rest);
    return 0;
  } catch (error) {
    if (!(error instanceof SimulatorError)) throw error;
    process.stderr.write(`dstack-tee-simulator: ${error.message}\n`);
    return error.code === 'argument' ? 2 : 1;
  }
}

process.exitCode = await main(process.argv.slice(2));

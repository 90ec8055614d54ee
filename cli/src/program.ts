import { taskSummaries } from '@dstack-cloud/contracts/task-summaries';
import { nearestName, printableMessage } from '@dstack-cloud/encoding';
import { Argument, Command, Option, type OutputConfiguration } from 'commander';
import { SHELLS } from './completion/completion-script.ts';
import type { Context } from './context.ts';
import {
  EIF_BUILD_EXAMPLES,
  EIF_DESCRIBE_EXAMPLES,
  EIF_MEASURE_EXAMPLES,
  EIF_SIGN_EXAMPLES,
  EIF_VERIFY_EXAMPLES,
} from './eif/examples.ts';
import { CliError, EXIT } from './errors.ts';
import { GLOBAL_HELP } from './global-options.ts';
import { addGovCommands } from './gov-commands.ts';
import { examplesOf } from './help/examples.ts';
import { addMeasurementCommands } from './measurement-commands.ts';
import { VERSION } from './version.ts';

/** A command's file: does the work and returns the exit code, or nothing for success. */
interface CommandModule {
  /** Set when it changes the project or its machine: then no two run at once. */
  readonly changesProject?: true;
  run(
    context: Context,
    args: readonly string[],
    options: Readonly<Record<string, unknown>>,
  ): Promise<number | undefined>;
}

type Load = () => Promise<CommandModule>;

/**
 * The table of commands. Each command's file is loaded only when it runs, so that
 * `--help` stays fast.
 */
export function createProgram(context: Context, finish: (exitCode: number) => void): Command {
  const program = new Command('dstack-cloud')
    .description(
      'Run Docker applications in hardware TEEs; keys go only to workloads that prove what they are',
    )
    .version(VERSION, '--version', 'version')
    .helpOption('-h, --help', 'this text')
    .helpCommand(false)
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput(output(context))
    .addHelpText('after', GLOBAL_HELP);

  const command = (usage: string, summary: string, load: Load, parent: Command = program): Command => {
    const added = parent.command(usage).description(summary).helpOption('-h, --help', 'this text');
    added.exitOverride().configureOutput(output(context));
    added.addHelpText('after', examplesOf(wordsOf(added)));
    added.addHelpText('after', GLOBAL_HELP);
    return added.action(async (...given: unknown[]) => {
      given.pop();
      const options = given.pop() as Record<string, unknown>;
      const { run, changesProject } = await load();
      const work = () => run(context, given.flat() as string[], options);
      const { withProjectLock } = await import('./project/project-lock.ts');
      finish((changesProject ? await withProjectLock(context, work) : await work()) ?? 0);
    });
  };

  command('new <NAME>', 'make a project', () => import('./commands/new.ts'))
    .option('--platform <NAME>', 'local, gcp or nitro (default: platform of the configuration, else local)')
    .addOption(
      new Option('--template <NAME>', 'app (default), or kms: a key service').choices(['app', 'kms']),
    )
    .addOption(
      new Option(
        '--driver <NAME>',
        'platform local: how the machine runs (default: local.driver of the configuration)',
      ).choices(['process', 'vm']),
    )
    .option(
      '--image <REFERENCE>',
      'container image: of template kms, by digest; with --driver vm one that has Node',
    )
    .option('--os-image <NAME>', 'OS image')
    .option('--app-id <HEX>', 'app id, 40 hex digits (default: random)')
    .option('--gw, --gateway-enabled', 'reach the app through the gateway')
    .option('--no-gw, --no-gateway-enabled', 'do not')
    .addOption(new Option('--kp, --key-provider <NAME>', 'kms, local, tpm or none').choices(KEY_PROVIDERS))
    .addOption(new Option('--fs, --storage-fs <NAME>', 'ext4 or zfs').choices(['ext4', 'zfs']))
    .option('--secure-time', 'wait for synchronised time at boot')
    .option('--no-secure-time', 'do not wait')
    .option('--no-instance-id', 'the same keys for every instance')
    .option('-p, --project <ID>', 'GCP project')
    .option('-z, --zone <ZONE>', 'GCP zone')
    .option('--region <REGION>', 'AWS region')
    .option('--instance-name <NAME>', 'instance name (default: dstack-NAME)')
    .option('-m, --machine-type <TYPE>', 'machine type')
    .option('--data-size <GB>', 'data disk');
  command('config-edit', 'edit the global configuration', () => import('./commands/config-edit.ts'));
  command('prepare', 'write the files of shared/ without deploying', () => import('./commands/prepare.ts'));
  command(
    'measure',
    'print compose hash and identities before a deploy; of an enclave its registers',
    () => import('./commands/measure.ts'),
  ).option('--fetch-root-ca', 'platform nitro: ask the KMS for its root first, and write it to root_ca');
  const deploy = command('deploy', 'deploy or update the app', () => import('./commands/deploy.ts'))
    .option('-d, --delete', 'make the machine new, and keep its data disk')
    .option('--delete-data', 'make the machine new, and its data disk too: asks, or needs --yes')
    .option(
      '--local',
      'platform nitro: build and measure the image, say what to register; touch nothing of AWS',
    )
    .option('--register', 'create the app contract and allow the compose hash on chain first')
    .option('--no-register', 'never write to the chain')
    .option(
      '--no-policy-check',
      'boot although the contract forbids it or cannot be read: the key service decides',
    )
    .option('--dry-run', 'check everything and print what would be deployed')
    .option('--force-boot-image', 'upload the boot image although it is there (GCP)')
    .option('--no-wait', 'leave when the machine is made, before it has booted (GCP)')
    .option('--force', 'go on although the data disk becomes unreadable (GCP with key provider tpm)')
    .option('--trust-signer <HEX>', 'accept environment keys of this KMS signer without a chain');
  withSendingOptions(deploy);
  command('status', 'state, addresses and measurements', () => import('./commands/status.ts'));
  command('history', 'what was deployed, and when', () => import('./commands/history.ts'));
  command('open', 'open the app in the browser', () => import('./commands/open.ts')).option(
    '--agent',
    "the machine's agent instead",
  );
  command(
    'logs [CONTAINER]',
    'console of the machine, its journal, or log of a container',
    () => import('./commands/logs.ts'),
  )
    .option('-f, --follow', 'go on until Ctrl-C')
    .option('-n, --lines <N>', 'last lines', '100')
    .option('--container <NAME>', 'one container, as the argument')
    .option('--journal', 'the journal of the machine (local, driver vm)');
  command('stop', 'stop the machine', () => import('./commands/stop.ts')).option(
    '--host',
    'also the parent instance of the enclave (AWS)',
  );
  command('start', 'start the machine', () => import('./commands/start.ts'));
  command('remove', 'remove the machine', () => import('./commands/remove.ts'))
    .option('--keep-images', 'keep images')
    .option('--all', 'also its data disk, firewall rules and boot image (GCP), and its bucket (GCP, AWS)')
    .option('-f, --force', 'stop it first when it runs');
  command('list', 'deployed machines', () => import('./commands/list.ts')).option(
    '-p, --project <ID>',
    'GCP project',
  );
  command('verify [URL_OR_FILE]', 'verify the attestation of an app', () => import('./commands/verify.ts'))
    .option('--compose-hash <HEX>', 'the compose hash that the app must have', collected)
    .option('--app-id <HEX>', 'the app id that the app must have', collected)
    .option('--os-image-hash <HEX>', 'the OS image that the app must run on', collected)
    .option('--expect <NAME=VALUE>', 'another value that must be so, such as mrtd or mode', collected)
    .option('--at <TIME>', 'verify for another time than now; the verdict then says so', once('--at'));

  command('plan', 'what a deploy would change, before anything does', () => import('./commands/plan.ts'))
    .option('-d, --delete', 'of a deploy that makes the machine new')
    .option('--delete-data', 'of one that makes its data disk new too');
  command('doctor', 'what keeps a deploy from working', () => import('./commands/doctor.ts'));
  command(
    'rollback [N]',
    'deploy the revision before, or the Nth before',
    () => import('./commands/rollback.ts'),
  )
    .option('--no-policy-check', 'although the contract forbids it or cannot be read')
    .option('--no-wait', 'leave when the machine is made, before it has booted')
    .option('--force', 'although the data disk becomes unreadable');
  command('pull [IMAGE_OR_URL]', 'download an OS image', () => import('./commands/pull.ts'))
    .option('--os-image <NAME>', 'image to download, as the argument')
    .option('--sha256 <HEX>', 'hash that the archive must have');

  const fw = group(context, program, 'fw', 'firewall rules of a machine in a cloud');
  const rule = (added: Command): Command =>
    added
      .option('-i, --instance <NAME>', "instance (default: the project's)")
      .option('-p, --project <ID>', "GCP project (default: the project's)");
  const source = ['-s, --source <CIDR>', 'who it is for (default: everybody); may be repeated'] as const;
  rule(
    command('allow <PORT>', 'open a port: N, N/tcp or N/udp', () => import('./commands/fw-allow.ts'), fw),
  ).option(...source, collected);
  rule(
    command('deny <PORT>', 'close a port, over what allows it', () => import('./commands/fw-deny.ts'), fw),
  ).option(...source, collected);
  rule(command('remove <PORT>', 'remove the rules of a port', () => import('./commands/fw-remove.ts'), fw));
  rule(command('list', 'list the rules', () => import('./commands/fw-list.ts'), fw));

  const image = group(context, program, 'image', 'OS images: build, measure, compare');
  command(
    'build',
    'build an OS image from locked Debian packages',
    () => import('./commands/image-build.ts'),
    image,
  )
    .option('--dev', 'development image: not for secrets, and its hash says so')
    .option('--name <NAME>', 'name of the image (default: dstack-cloud-VERSION, dstack-cloud-dev-VERSION)')
    .option('-o, --output <DIR>', 'folder to put it in (default: the first of image_search_paths)')
    .option('--lock <FILE>', 'another list of locked packages')
    .option('--packages <DIR>', 'take packages from this folder before the mirror')
    .option('--release', 'compress as well as possible (minutes instead of seconds)');
  command(
    'container [PROGRAM...]',
    'make container images of dstack-kms, dstack-auth-api, dstack-verifier',
    () => import('./commands/image-container.ts'),
    image,
  )
    .option('-o, --output <DIR>', 'folder to put them in (default: this one)')
    .option('--lock <FILE>', 'another list of locked packages')
    .option('--packages <DIR>', 'take packages from this folder before the mirror');
  command(
    'lock',
    'compare the locked packages with the newest ones',
    () => import('./commands/image-lock.ts'),
    image,
  )
    .option('--update', 'write the newest ones to the lock file')
    .option('--lock <FILE>', 'another lock file');
  command('list', 'images in the search paths', () => import('./commands/image-list.ts'), image);
  command(
    'measure <IMAGE>',
    'check an image and print its hashes',
    () => import('./commands/image-measure.ts'),
    image,
  );
  command(
    'diff <IMAGE> <OTHER>',
    'what makes two images differ',
    () => import('./commands/image-diff.ts'),
    image,
  );
  command('rm <IMAGE>', 'remove an image', () => import('./commands/image-rm.ts'), image);

  const eif = group(context, program, 'eif', 'enclave images of AWS Nitro: build, measure, sign, verify');
  command(
    'build [COMMAND...]',
    'build an enclave image from a container image or a folder, without Docker',
    () => import('./commands/eif-build.ts'),
    eif,
  )
    .requiredOption('-o, --output <FILE>', 'the enclave image')
    .option('--image <FILE>', 'container image: archive of docker save, or OCI image layout')
    .option('--tag <NAME:TAG>', 'which image of an archive with several')
    .option('--root <DIR>', 'folder to take for the root instead; the COMMAND says what starts')
    .option('--blobs <DIR>', "nitro-cli's bzImage or Image, cmdline, init, nsm.ko (env NITRO_CLI_BLOBS)")
    .option('--kernel <FILE>', 'another kernel')
    .option('--cmdline <TEXT>', 'another command line')
    .option('--init-ramdisk <FILE>', 'another first ramdisk')
    .addOption(new Option('--arch <NAME>', 'machine, where the kernel does not say').choices(ARCHITECTURES))
    .option('--pcr1 <HEX|aws>', 'PCR 1 that kernel, command line and init must give; aws: those of nitro-cli')
    .option('--signing-certificate <FILE>', 'certificate of the signature, PEM')
    .option('--private-key <FILE>', 'its key, PEM')
    .option('--sign-command <COMMAND>', 'command that signs standard input with its key instead')
    .option('--name <NAME>', 'ImageName in the metadata (default: name of the container image)')
    .option('--image-version <TEXT>', 'ImageVersion in the metadata (default: id of the container image)')
    .option('--metadata <FILE>', 'JSON of your own for the metadata')
    .option('--nitro-cli-compat', 'of ENTRYPOINT and CMD start only one, as nitro-cli does')
    .addHelpText('after', EIF_BUILD_EXAMPLES);
  command(
    'measure <FILE>',
    'print PCRs and OS_IMAGE_HASH',
    () => import('./commands/eif-measure.ts'),
    eif,
  ).addHelpText('after', EIF_MEASURE_EXAMPLES);
  command(
    'describe <FILE>',
    'describe an enclave image, as nitro-cli describe-eif',
    () => import('./commands/eif-describe.ts'),
    eif,
  ).addHelpText('after', EIF_DESCRIBE_EXAMPLES);
  command('sign <FILE>', 'sign an enclave image', () => import('./commands/eif-sign.ts'), eif)
    .option('--signing-certificate <FILE>', 'certificate, PEM')
    .option('--private-key <FILE>', 'its key, PEM')
    .option('--sign-command <COMMAND>', 'command that signs standard input with its key instead')
    .option('-o, --output <FILE>', 'another file (default: in place)')
    .addHelpText('after', EIF_SIGN_EXAMPLES);
  command(
    'verify <FILE>',
    'check form, checksum, signature and registers',
    () => import('./commands/eif-verify.ts'),
    eif,
  )
    .option('--measurements <FILE>', 'registers that it must have: JSON of eif measure or nitro-cli')
    .option('--expect <NAME=HEX>', 'a register that it must have, such as PCR0', collected)
    .option('--signing-certificate <FILE>', 'certificate that must have signed, PEM')
    .option('--require-signature', 'refuse an image that is not signed')
    .option('--at <TIME>', 'time at which the certificate must be valid (default: now)', once('--at'))
    .addHelpText('after', EIF_VERIFY_EXAMPLES);

  const seal = group(context, program, 'seal', 'keys sealed in a TPM: who may approve another system');
  const sealKey = (added: Command): Command =>
    added
      .option('--key-file <FILE>', 'private key on P-256 in PEM (default: the variable SEAL_APPROVAL_KEY)')
      .option('--password-file <FILE>', 'password of that file')
      .option('--public-key <FILE>', 'public key in PEM, when the private one is kept elsewhere');
  sealKey(
    command('key', 'print a key as app-compose.json names it', () => import('./commands/seal-key.ts'), seal),
  );
  sealKey(
    command(
      'approve <REFUSAL>',
      'let another system have what a TPM sealed; REFUSAL is a log or another file with the message',
      () => import('./commands/seal-approve.ts'),
      seal,
    ),
  )
    .option('--image <IMAGE>', 'OS image that the system must boot (default: one that has its PCR 4)')
    .option('--compose <FILE>', 'app-compose.json that it must run')
    .option('--instance <FILE>', '.instance_info of the machine, unless the application has no instance id')
    .option('--expect <PCR=HEX>', 'a value that you know, such as that of the firmware', collected)
    .option('--accept <PCRS>', 'registers to take as they are, such as 0,2')
    .option('-o, --output <FILE>', 'where the approval goes (default: .seal-approval.json)')
    .option('--to-sign <FILE>', 'only write what has to be signed, for a key that is kept elsewhere')
    .option('--signature <FILE>', 'signature over that, 64 bytes or DER')
    .addHelpText('after', SEAL_EXAMPLES);

  const app = group(context, program, 'app', 'the app contract: which compose files may have keys');
  withSendingOptions(
    command('create', 'create the app contract on chain', () => import('./commands/app-create.ts'), app),
  ).option('--no-compose-hash', 'allow no compose hash yet');
  withSendingOptions(
    command('allow [COMPOSE_HASH]', 'allow a compose hash', () => import('./commands/app-allow.ts'), app),
  );
  withSendingOptions(
    command('revoke [COMPOSE_HASH]', 'revoke a compose hash', () => import('./commands/app-revoke.ts'), app),
  );
  command('show', 'what the chain says about the app', () => import('./commands/app-show.ts'), app);

  const env = group(context, program, 'env', 'secrets of the app, in its .env file');
  command('list', 'names of the variables', () => import('./commands/env-list.ts'), env);
  command(
    'set <NAME>',
    'set a variable; the value is read from stdin',
    () => import('./commands/env-set.ts'),
    env,
  );
  command('unset <NAME>', 'remove a variable', () => import('./commands/env-unset.ts'), env);
  const kms = group(context, program, 'kms', 'the key service: its contract, its log');
  const audit = group(context, kms, 'audit', 'the log of its decisions');
  command(
    'verify',
    'check the signed head of the log against the chain, and that the log only grew since the last time',
    () => import('./commands/kms-audit-verify.ts'),
    audit,
  )
    .option('--url <URL>', 'key service (default: the first of services.kms_urls)')
    .option('--log <DIR>', 'also check a copy of the log itself, record by record')
    .option('--record <SEQ>', 'prove that this record is in the log (with --hash)')
    .option('--hash <HEX>', 'hash of that record')
    .option('--trust-signer <HEX>', 'root key to check against, without a chain');

  const gov = group(context, program, 'gov', 'who may change the policy: propose, approve, execute, revoke');
  addGovCommands((usage, summary, load) => command(usage, summary, onChain(load as Load), gov));
  command(
    'watch [FILE]',
    'follow the contracts and tell what happens (FILE: watch.toml)',
    () => import('./commands/gov-watch.ts'),
    gov,
  )
    .option('--once', 'one pass, for cron')
    .addHelpText('after', WATCH_HELP);

  const measurement = group(context, program, 'measurement', 'what contracts allow: plan it, register it');
  addMeasurementCommands((usage, summary, load) =>
    command(usage, summary, onChain(load as Load), measurement),
  );

  command(
    'console [FILE]',
    'serve a page that shows the governance (FILE: of gov watch; default: the configured chain)',
    () => import('./commands/console.ts'),
  ).option('--port <PORT>', 'port on 127.0.0.1; 0 takes a free one (default: 8190)');

  command('completion', 'a script that completes commands', async () => {
    const { run } = await import('./commands/completion.ts');
    return { run: (given, words) => run(given, words, program) };
  })
    .addArgument(new Argument('<SHELL>').choices(SHELLS))
    .addHelpText('after', COMPLETION_EXAMPLES);
  program
    .command('help [COMMAND...]')
    .description('help of a command')
    .helpOption('-h, --help', 'this text')
    .exitOverride()
    .configureOutput(output(context))
    .addHelpText('after', examplesOf('help'))
    .action(async (words: string[]) => {
      requireCommand(program, words);
      await createProgram(context, finish).parseAsync([...words, '--help'], { from: 'user' });
    });

  const info = group(context, program, 'info', 'what the contracts say');
  for (const [name, summary] of Object.entries(taskSummaries)) {
    const [kind, verb] = name.split(':') as ['kms' | 'app' | 'info', string];
    const load: Load = async () => {
      const { runContractTask } = await import('./commands/contract-task.ts');
      return { run: (given, words) => runContractTask(given, name, words) };
    };
    command(`${verb} [WORDS...]`, summary, load, { kms, app, info }[kind])
      .helpOption(false)
      .allowUnknownOption();
  }
  return program;
}

/** A command whose errors may be viem's: their texts have the URL of the endpoint, and with it perhaps a key. */
function onChain(load: Load): Load {
  return async () => {
    const { run, ...rest } = await load();
    return {
      ...rest,
      run: async (context, words, options) => {
        const [{ withTimeLimit }, { wholeNumber }] = await Promise.all([
          import('./chain/time-limit.ts'),
          import('./whole-number.ts'),
        ]);
        try {
          const seconds = wholeNumber('--timeout', options['timeout'] as string | undefined);
          return await withTimeLimit(context, seconds, (limited) => run(limited, words, options));
        } catch (error) {
          const { explainFailure } = await import('@dstack-cloud/contracts/tasks');
          const explained = explainFailure(error);
          const { code, message } = explained as { code?: unknown; message?: unknown };
          // A task's words, which an action of gov has too.
          if (code !== 'usage' || explained instanceof CliError) throw explained;
          throw new CliError('usage', String(message), { exitCode: EXIT.usage });
        }
      },
    };
  };
}

/** Bounds of a command that writes to the configured chain; further endpoints are those of SECOND_RPC_URL. */
function withSendingOptions(command: Command): Command {
  return command
    .option('--timeout <SECONDS>', 'give up what the chain does not confirm in so long (default: 900)')
    .option('--max-cost <ETH>', 'refuse a transaction for which the endpoint asks more (default: 1)');
}

/** What is typed to call a command, without the program's name. */
function wordsOf(command: Command): string {
  const { parent } = command;
  return parent?.parent == null ? command.name() : `${wordsOf(parent)} ${command.name()}`;
}

/** @throws CliError `usage` for words that are no command */
function requireCommand(program: Command, words: readonly string[]): void {
  let at = program;
  for (const word of words) {
    const found = at.commands.find((one) => one.name() === word);
    if (found === undefined) {
      const near = nearestName(
        word,
        at.commands.map((one) => one.name()),
      );
      const hint = near === undefined ? {} : { hint: `Did you mean ${near}?` };
      throw new CliError('usage', `There is no command ${words.join(' ')}`, {
        exitCode: EXIT.usage,
        ...hint,
      });
    }
    at = found;
  }
}

/** A command that only holds others; bare, it prints its help. */
function group(context: Context, parent: Command, name: string, summary: string): Command {
  const added = parent.command(name).description(summary).helpOption('-h, --help', 'this text');
  return added.helpCommand(false).exitOverride().configureOutput(output(context));
}

/** Help goes where the host says, in a fixed width, so that it reads the same everywhere. */
function output(context: Context): OutputConfiguration {
  const width = (): number => 100;
  return {
    writeOut: context.stdout,
    writeErr: context.stderr,
    outputError: (text, write) => write(`${printableMessage(text.trimEnd())}\n`),
    getOutHelpWidth: width,
    getErrHelpWidth: width,
  };
}

const WATCH_HELP = `
Examples:
  dstack-cloud gov watch watch.toml             until Ctrl-C
  dstack-cloud gov watch --json >> alerts.jsonl  one JSON document a line
  dstack-cloud gov watch --once --json          from cron

The keys of the file: docs/reference/watch-config.md
`;

/** Values of an option in order, so that one that may not come twice can be refused. */
function collected(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}

/** An option that counts once. */
function once(name: string): (value: string, before: string | undefined) => string {
  return (value, before) => {
    if (before === undefined) return value;
    throw new CliError('usage', `${name} is given twice`, { exitCode: EXIT.usage });
  };
}

const COMPLETION_EXAMPLES = `
Examples:
  source <(dstack-cloud completion bash)                      this shell; in ~/.bashrc: every one
  dstack-cloud completion zsh > "\${fpath[1]}/_dstack-cloud"
  dstack-cloud completion fish > ~/.config/fish/completions/dstack-cloud.fish`;

const ARCHITECTURES = ['x86_64', 'aarch64'];

const SEAL_EXAMPLES = `
Examples:
  dstack-cloud seal approve serial.log --key-file owner.pem --image dstack-cloud-0.2.0 \\
    --compose app-compose.json --accept 0,2
  dstack-cloud seal approve serial.log --public-key owner.pub --compose app-compose.json \\
    --accept 0,2 --to-sign approval.bin`;

const KEY_PROVIDERS = ['kms', 'local', 'tpm', 'none'];

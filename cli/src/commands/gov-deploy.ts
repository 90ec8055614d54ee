import { writeFileAtomic } from '@dstack-cloud/app';
import { addressValue } from '@dstack-cloud/contracts/tasks';
import { durationText, GovernanceError, type GovernanceFile } from '@dstack-cloud/governance';
import { type Address, zeroAddress } from 'viem';
import { confirm } from '../ask.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { connectGov, type GovOptions, type GovSession } from '../gov/connect-gov.ts';
import { deployModel } from '../gov/deploy-model.ts';
import { wholeNumber } from '../whole-number.ts';

type Options = GovOptions & {
  model?: string;
  owner?: string;
  proposer?: string;
  executor?: string;
  admin?: string;
  signer?: readonly string[];
  threshold?: string;
  safe?: string;
  delay?: string;
  grace?: string;
  guardian?: readonly string[];
};

/** Seconds for which a ready operation can be executed: two weeks. */
const GRACE_S = 1_209_600;
const MAX_DELAY_S = 2_592_000;

/** `gov deploy`: from contracts that one account owns, or none, to a governance. What was interrupted is continued. */
export async function run(context: Context, _: readonly string[], options: Options): Promise<undefined> {
  const session = await connectGov(context, { ...options, kms: undefined as never }, { mayBeNew: true });
  // Who pays does not matter for a look at the plan.
  const account = session.dryRun ? await session.findAccount() : (await session.chain.signer()).account;
  const plan = planOf(options, context, session, account?.address);
  const { file, filePath, client } = session;
  if (file?.complete === true) {
    throw new CliError('exists', `${filePath} is of a governance that is deployed`, {
      hint: 'See dstack-cloud gov status, or name another file with --governance',
    });
  }
  if (file !== undefined) requireSamePlan(file, plan, filePath);
  const state: GovernanceFile = file ?? { ...plan, fromBlock: Number(await client.getBlockNumber()) };
  for (const line of planLines(state, account?.address, options)) context.print(line);
  if (session.dryRun) {
    context.print('Nothing was deployed.');
    context.result({ deployed: false, plan });
    return undefined;
  }
  await confirm(context, file === undefined ? 'Deploy this?' : 'Continue this deployment?');
  const save = async (next: GovernanceFile): Promise<void> =>
    await writeFileAtomic(filePath, `${JSON.stringify(next, null, 2)}\n`, { mode: 0o644 });
  const done = await deployModel(context, session, {
    ...{ state, save, kms: options.kms, admin: adminOf(options, context) },
    grace: BigInt(wholeNumber('--grace', options.grace) ?? GRACE_S),
  });
  const { timelock, safe, kms } = done.file;
  context.print(`DstackKms implementation: ${done.implementation}`);
  context.print(`DstackKms proxy: ${kms}`);
  if (safe !== undefined) context.print(`Safe: ${safe}`);
  if (timelock !== undefined) context.print(`TimelockController: ${timelock}`);
  context.print(`DstackKms owner: ${done.owner}`);
  context.print(`Recorded in ${filePath}`);
  context.result({
    deployed: true,
    ...done.file,
    owner: done.owner,
    implementation: done.implementation,
    file: filePath,
  });
  return undefined;
}

function planOf(
  options: Options,
  { env }: Context,
  session: GovSession,
  deployer: Address | undefined,
): GovernanceFile {
  const model = { A: 'A', B: 'B', C: 'C', multisig: 'multisig' }[options.model ?? ''] as
    | GovernanceFile['model']
    | undefined;
  if (model === undefined) {
    throw usage(
      '--model is A (one account), B (Timelock), C (Safe and Timelock) or multisig (Safe without a delay)',
    );
  }
  const list = (name: string, texts: readonly string[] | undefined): Address[] => {
    const found = (texts ?? []).map((text) => addressValue(name, text));
    if (new Set(found).size !== found.length) throw usage(`${name} names an address twice`);
    return found;
  };
  const hasSafe = model === 'C' || model === 'multisig';
  const hasTimelock = model === 'B' || model === 'C';
  const signers = list('--signer', options.signer);
  const threshold = wholeNumber('--threshold', options.threshold);
  const safe = options.safe === undefined ? undefined : addressValue('--safe', options.safe);
  if (hasSafe && safe === undefined) {
    if (signers.length < 2)
      throw usage(`Model ${model} needs --signer for each signer, at least two, or --safe ADDRESS`);
    if (threshold === undefined || threshold < 1 || threshold > signers.length) {
      throw usage(`--threshold is 1 to ${signers.length} for ${signers.length} signers`);
    }
  }
  if (!hasSafe && (signers.length > 0 || safe !== undefined)) throw usage(`Model ${model} has no Safe`);
  const delay = wholeNumber('--delay', options.delay ?? env['MIN_DELAY']);
  if (hasTimelock && (delay === undefined || delay < 1 || delay > MAX_DELAY_S)) {
    throw usage(`Model ${model} needs --delay SECONDS, at most ${MAX_DELAY_S}`);
  }
  const proposerText = options.proposer ?? env['PROPOSER'];
  const executorText = options.executor ?? env['EXECUTOR'];
  return {
    ...{ version: 1, model, chainId: session.chain.chain.id, complete: false, fromBlock: 0 },
    ...{ apps: list('--app', options.app), guardians: list('--guardian', options.guardian), made: {} },
    ...(model === 'A' && {
      owner: options.owner === undefined ? deployer : addressValue('--owner', options.owner),
    }),
    ...(hasSafe && (safe === undefined ? { signers, threshold } : { safe })),
    ...(hasTimelock && { minDelay: delay }),
    ...(model === 'B' && {
      proposer: proposerText === undefined ? deployer : addressValue('--proposer', proposerText),
    }),
    ...(hasTimelock &&
      executorText !== undefined && {
        executor: executorText === 'anyone' ? zeroAddress : addressValue('--executor', executorText),
      }),
  };
}

function adminOf({ admin }: Options, { env, warn }: Context): Address {
  const text = admin ?? env['ADMIN'];
  const address = text === undefined || text === '' ? zeroAddress : addressValue('--admin', text);
  if (address !== zeroAddress)
    warn(`${address} will be able to change the roles of the Timelock without delay`);
  return address;
}

function requireSamePlan(file: GovernanceFile, plan: GovernanceFile, path: string): void {
  for (const name of ['model', 'signers', 'threshold', 'minDelay', 'guardians', 'apps', 'owner'] as const) {
    if (JSON.stringify(file[name]) === JSON.stringify(plan[name])) continue;
    throw new GovernanceError(
      'bad-input',
      `${path} is of a deployment that is under way, with another ${name}`,
      {
        ...{ expected: JSON.stringify(file[name]), found: JSON.stringify(plan[name]) },
        hint: 'Repeat the command as it was, or name another file with --governance',
      },
    );
  }
}

function planLines(state: GovernanceFile, deployer: Address | undefined, { kms, safe }: Options): string[] {
  const { model, signers, threshold, minDelay, guardians, apps } = state;
  return [
    `Model ${model}, by ${deployer ?? 'the account whose key is given then'}`,
    kms === undefined ? 'A new DstackKms, with the code of apps' : `DstackKms ${kms}, which exists`,
    ...(signers === undefined
      ? []
      : [`A Safe 1.4.1 with ${threshold} of ${signers.length} signers: ${signers.join(', ')}`]),
    ...(safe === undefined ? [] : [`Safe ${safe}, which exists`]),
    ...(minDelay === undefined ? [] : [`A Timelock with a delay of ${durationText(BigInt(minDelay))}`]),
    guardians.length === 0
      ? 'No guardian: a revocation will wait as long as an addition'
      : `Guardians, who may revoke at once: ${guardians.join(', ')}`,
    ...apps.map((app) => `App ${app} comes under the same owner`),
  ];
}

function usage(message: string): CliError {
  return new CliError('usage', message, { exitCode: EXIT.usage, hint: 'See dstack-cloud gov deploy --help' });
}

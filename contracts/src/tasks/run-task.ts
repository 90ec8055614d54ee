import { nearestName } from '@dstack-cloud/encoding';
import type { Address, LocalAccount } from 'viem';
import { ContractsError } from '../errors.ts';
import { appTasks } from './app-tasks.ts';
import { connectTask, type TaskChain } from './connect-task.ts';
import { deployTasks } from './deploy-tasks.ts';
import { explainFailure } from './explain-revert.ts';
import { addressValue } from './hex-values.ts';
import { infoTasks } from './info-tasks.ts';
import { kmsTasks } from './kms-tasks.ts';
import { type Network, networkOf } from './networks.ts';
import { parseWords, valuesOf } from './parse-arguments.ts';
import { directSender, type Sender } from './sender.ts';
import { costValue } from './sign-transaction.ts';
import { findSigner } from './signer.ts';
import { submitCall } from './submit-call.ts';
import type { Task, TaskArgument, TaskRun } from './task.ts';
import { processTerminal, type TaskTerminal } from './terminal.ts';

/** Every task, by name. */
export const tasks: Readonly<Record<string, Task>> = {
  ...deployTasks,
  ...kmsTasks,
  ...appTasks,
  ...infoTasks,
};

/** Surroundings of a task; what is not given is looked for in the environment. */
export type TaskSurroundings = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly terminal?: TaskTerminal;
  /** Instead of `--network`. */
  readonly network?: { readonly name: string; readonly at: Network };
  readonly kms?: string;
  readonly account?: () => Promise<LocalAccount>;
  /** Keeps what is sent, so that an interrupted task can be repeated (default: nothing is kept). */
  readonly sender?: (chain: TaskChain, maxCost: bigint) => Promise<Sender>;
  /** Ends everything. */
  readonly signal?: AbortSignal;
  /** Help for options that only this caller of the tasks has. */
  readonly moreHelp?: string;
  /** How a person calls the tasks (default: `npx hardhat`): with a space, of which a task's name has a colon. */
  readonly program?: string;
};

/** What a task has done, for `--json`, or the help that was asked for. */
type TaskAnswer = { json: boolean; result: Record<string, unknown> } | { help: string };

/**
 * Runs one task from the words of a command line.
 * @throws ContractsError
 */
export async function runTask(words: readonly string[], surroundings: TaskSurroundings): Promise<TaskAnswer> {
  try {
    return await answerTask(words, surroundings);
  } catch (error) {
    throw explainFailure(error);
  }
}

async function answerTask(
  words: readonly string[],
  { env, terminal: given, network, kms, account, program = 'npx hardhat', ...more }: TaskSurroundings,
): Promise<TaskAnswer> {
  const { common, task: name, named, bare } = parseWords(words, tasks);
  if (name === undefined || name === 'help') return { help: taskList() };
  const task = Object.hasOwn(tasks, name) ? tasks[name] : undefined;
  if (!task)
    throw new ContractsError(
      'usage',
      `There is no task ${name}${suggestion(name, Object.keys(tasks))}. See npx hardhat help`,
    );
  if (common.help) return { help: taskHelp(name, task, program, more.moreHelp) };
  const maxCost = costValue(common.maxCost);
  const values = valuesOf(name, task, named, bare, common.allowDebug);
  const [safe, timelock] = (['safe', 'timelock'] as const).map((option) => {
    const address = common[option];
    return address === undefined ? undefined : addressValue(`--${option}`, address);
  });
  const terminal = given ?? processTerminal(common);
  const chain = await connectTask({
    name: network?.name ?? common.network,
    network: network?.at ?? networkOf(common.network, env),
    kms: () => kmsAddress(env, kms),
    ...(more.signal && { signal: more.signal }),
    account:
      common.keyFile === undefined && common.signerUrl === undefined && account !== undefined
        ? account
        : () => findSigner({ ...common, env, warn: (line) => terminal.note(`Warning: ${line}`) }),
  });
  const sender = (await more.sender?.(chain, maxCost)) ?? directSender(chain, maxCost);
  const caller = async (): Promise<Address> => timelock ?? safe ?? (await chain.signer()).account.address;
  const submit: TaskRun['submit'] = (call) =>
    submitCall({ chain, terminal, sender }, call, {
      dryRun: common.dryRun,
      announce: common.announce,
      summary: task.summary.replace(/ \(owner or guardian\)$/, ''),
      safe,
      timelock,
    });
  if ('run' in task) {
    if ((safe ?? timelock) !== undefined && name.includes('deploy')) {
      throw new ContractsError('usage', `${name} creates contracts: only an account can do that`);
    }
    return {
      json: common.json,
      result: await task.run({ chain, terminal, sender, values, dryRun: common.dryRun, caller, submit }),
    };
  }
  const result = await submit(await task.call(values, chain));
  if (result.sent && common.announce) {
    terminal.print(
      'Announced. Repeat the task without --announce after the policy delay, within 14 days of it',
    );
  } else if (result.sent) terminal.print(typeof task.done === 'string' ? task.done : task.done(values));
  return { json: common.json, result };
}

/** What a mistyped name most likely means, to go on with in a sentence. */
function suggestion(wrong: string, known: readonly string[]): string {
  const near = nearestName(wrong, known);
  return near === undefined ? '' : `; did you mean ${near}?`;
}

/** JSON of a result: logs are for the task itself, and large numbers are texts. */
export function taskJson(result: Record<string, unknown>): string {
  const { logs: _, ...shown } = result;
  return JSON.stringify(
    shown,
    (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value),
    2,
  );
}

/** Tasks and the key service's program name the variable differently. */
function kmsAddress(env: TaskSurroundings['env'], configured: string | undefined): `0x${string}` {
  const named = [env['KMS_CONTRACT_ADDRESS'], env['KMS_CONTRACT_ADDR'], configured].filter(
    (value): value is string => value !== undefined && value !== '',
  );
  const [address] = named;
  if (named.some((other) => other.toLowerCase() !== address?.toLowerCase())) {
    throw new ContractsError(
      'bad-argument',
      'KMS_CONTRACT_ADDRESS, KMS_CONTRACT_ADDR and the configuration name different contracts',
    );
  }
  if (address !== undefined) return addressValue('KMS_CONTRACT_ADDRESS', address);
  throw new ContractsError(
    'bad-argument',
    'Which contract? Set KMS_CONTRACT_ADDRESS to the address of DstackKms',
  );
}

const COMMON_HELP = `
Options of every task:
  --network NAME       test (RPC_URL or 127.0.0.1:8545), custom (RPC_URL), phala, base, base-sepolia, sepolia
  --dry-run            simulate and show the effect; send nothing
  --announce           make the call public instead of making it, where the contract has a policy delay
  --safe ADDRESS       print a batch file for this Safe instead of sending
  --timelock ADDRESS   print the transaction that schedules it in this Timelock
  --key-file FILE      key of the account: 64 hex digits, or an encrypted key file (with --password-file FILE)
  --signer-url URL     a service that holds the key and signs (with --from ADDRESS)
  --max-cost AMOUNT    refuse a transaction that may cost more, in the chain's currency (default: 1)
  --json               the result as JSON
  --yes                answer yes to questions
  --allow-debug        accept measurements of debug systems

Environment: PRIVATE_KEY, KMS_CONTRACT_ADDRESS, RPC_URL, KEYSTORE_PASSWORD_FILE. There is no default key.`;

/** How one task is called. */
export function taskHelp(name: string, task: Task, program = 'npx hardhat', more = ''): string {
  const named = task.arguments.filter(({ place }) => place !== 'first');
  const words = task.arguments
    .filter(({ place }) => place === 'first')
    .map((argument) => ` <${argument.name}>`);
  const value = ({ kind }: (typeof named)[number]): string =>
    kind === 'flag' || kind === 'boolean' ? '' : ' VALUE';
  const lines = named.map((one) => `  --${one.name}${value(one)}  ${one.summary}`);
  const called = `${program} ${program === 'npx hardhat' ? name : name.replace(':', ' ')}`;
  const variable = (argument: TaskArgument): string => `$${argument.name.replaceAll('-', '_').toUpperCase()}`;
  const needed = task.arguments
    .filter(({ optional, kind }) => optional !== true && kind !== 'flag')
    .map((one) => (one.place === 'first' ? ` ${variable(one)}` : ` --${one.name} ${variable(one)}`));
  const example = `${called}${needed.join('')}`;
  const examples = 'call' in task ? [example, `${example} --dry-run`] : [example];
  return `${called}${words.join('')} [options]\n\n${task.summary}\n${lines.join('\n')}\n${COMMON_HELP.replace('\n\nEnvironment', `${more}\n\nEnvironment`)}\n\nExamples:\n${examples.map((line) => `  ${line}`).join('\n')}`;
}

function taskList(): string {
  const width = Math.max(...Object.keys(tasks).map(({ length }) => length));
  const lines = Object.entries(tasks).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return `npx hardhat [--network NAME] <task> [options]\n\n${lines.join('\n')}\n${COMMON_HELP}`;
}

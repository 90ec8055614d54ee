import { resolve } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import { ContractsError } from '@dstack-cloud/contracts';
import {
  addressValue,
  connectTask,
  costValue,
  findSigner,
  networkOf,
  type TaskChain,
} from '@dstack-cloud/contracts/tasks';
import {
  canonicalSafeContract,
  type Governance,
  GovernanceError,
  type GovernanceFile,
  type KnownContracts,
  knownContracts,
  readGovernance,
  readGovernanceFile,
  sameGovernance,
  type TransactionService,
  transactionService,
} from '@dstack-cloud/governance';
import type { Address, LocalAccount, PublicClient } from 'viem';
import { readAccount } from '../chain/connect.ts';
import { clientOf, disagreement, fromOthers, otherUrls } from '../chain/other-endpoints.ts';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { wholeNumber } from '../whole-number.ts';

/** Options that every `gov` command has. */
export type GovOptions = {
  readonly network?: string;
  readonly kms?: string;
  readonly app?: readonly string[];
  readonly governance?: string;
  readonly fromBlock?: string;
  readonly keyFile?: string;
  readonly passwordFile?: string;
  readonly signerUrl?: string;
  readonly from?: string;
  readonly service?: string;
  readonly maxBlockAge?: string;
  readonly rpcTimeout?: string;
  readonly maxCost?: string;
  readonly dryRun?: boolean;
};

/** What is known at one block. */
export type GovView = { readonly governance: Governance; readonly known: KnownContracts };

/** A chain, the domain on it, and who acts. */
export type GovSession = {
  readonly chain: TaskChain;
  readonly client: PublicClient;
  /** Of SECOND_RPC_URL: whatever decides is read there too, and must be the same. */
  readonly others: readonly PublicClient[];
  /** Wei that one transaction may cost. */
  readonly maxCost: bigint;
  readonly file: GovernanceFile | undefined;
  /** Path of that file, also when there is none. */
  readonly filePath: string;
  readonly dryRun: boolean;
  /** Where the contracts were deployed, or earlier. */
  readonly fromBlock: bigint;
  kms(): Address;
  /** Of a file that the command line names: in the folder of -C, as all files of a command. */
  path(name: string): string;
  /** Reads the chain now. */
  read(): Promise<GovView>;
  /** The account, or undefined when no key was given. */
  findAccount(): Promise<LocalAccount | undefined>;
  service(safe: Address): TransactionService | undefined;
};

const MAX_FILE = 1024 * 1024;
/** Of one exchange with an endpoint; each is tried twice. */
const TIMEOUT_S = 20;
/** A chain that stands still for longer hides what happened since. */
const MAX_BLOCK_AGE_S = 600;

/**
 * Connects to the chain of the configuration, or to that of `--network`.
 * @param mayBeNew the governance file that is named may be one that is to be written
 */
export async function connectGov(
  context: Context,
  options: GovOptions,
  { mayBeNew = false }: { readonly mayBeNew?: boolean } = {},
): Promise<GovSession> {
  const { path: filePath, file } = await openGovernanceFile(context, options, { mayBeNew });
  const configured = options.network === undefined ? (await loadGlobalConfig(context)).chain : undefined;
  const rpc =
    configured === undefined
      ? networkOf(options.network ?? 'test', context.env)
      : { rpcUrl: configured.rpc_url, chainId: configured.chain_id };
  const { env } = context;
  const named =
    options.kms ??
    file?.kms ??
    env['KMS_CONTRACT_ADDRESS'] ??
    env['KMS_CONTRACT_ADDR'] ??
    configured?.kms_contract;
  const kms = (): Address => {
    if (named !== undefined && named !== '') return addressValue('--kms', named);
    throw new CliError('bad_argument', 'It is not known which DstackKms is meant', {
      hint: 'Pass --kms ADDRESS, or set KMS_CONTRACT_ADDRESS',
    });
  };
  const hasKey =
    options.keyFile !== undefined || options.signerUrl !== undefined || (env['PRIVATE_KEY'] ?? '') !== '';
  const account = async (): Promise<LocalAccount> =>
    !hasKey && configured?.private_key_file !== undefined
      ? await readAccount(context, configured)
      : await findSigner({ ...options, env, warn: context.warn });
  const timeoutMs = 1_000 * (wholeNumber('--rpc-timeout', options.rpcTimeout) || TIMEOUT_S);
  const urls = [rpc.rpcUrl, ...otherUrls(env['SECOND_RPC_URL'])];
  const { chain, at } = await firstThatAnswers(context, urls, (rpcUrl) =>
    connectTask({
      name: options.network ?? (configured === undefined ? 'test' : 'the chain of the configuration'),
      network: { rpcUrl, ...(rpc.chainId !== undefined && { chainId: rpc.chainId }) },
      ...{ kms, account, timeoutMs, signal: context.signal },
    }),
  );
  if (file !== undefined && file.chainId !== chain.chain.id) {
    throw new CliError('bad_config', `${filePath} is of another chain`, {
      ...{ expected: `chain ${file.chainId}`, found: `chain ${chain.chain.id}` },
      hint: 'Choose the network with --network, or another file with --governance',
    });
  }
  const client = chain.public as unknown as PublicClient;
  const fromBlock = BigInt(wholeNumber('--from-block', options.fromBlock) ?? file?.fromBlock ?? 0);
  const isLocal = /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(new URL(urls[at] ?? rpc.rpcUrl).hostname);
  const maxAge = wholeNumber('--max-block-age', options.maxBlockAge) ?? (isLocal ? 0 : MAX_BLOCK_AGE_S);
  // An empty list is none, if it was given; in the file it is one that nobody kept.
  const listed = options.app ?? (file === undefined || file.apps.length === 0 ? undefined : file.apps);
  const apps = listed?.map((app) => addressValue('--app', app));

  const others = urls.slice(at + 1).map((url) => clientOf(url, timeoutMs, context.signal));

  const read = async (): Promise<GovView> => {
    const query = { kms: kms(), fromBlock, ...(apps !== undefined && { apps }) };
    const governance = await readGovernance(client, query);
    const age = Math.floor(context.now().getTime() / 1000) - Number(governance.block.timestamp);
    if (maxAge > 0 && age > maxAge) {
      throw new GovernanceError(
        'chain-stale',
        `The newest block that the endpoint has is ${age} seconds old`,
        {
          ...{ expected: `at most ${maxAge} seconds`, found: `${age} seconds` },
          hint: 'It hides what happened since: use another endpoint, or pass --max-block-age 0 for a chain that stands still',
        },
      );
    }
    if (governance.chainId !== chain.chain.id) {
      throw disagreement('the chain id, within one command', `${chain.chain.id}`, `${governance.chainId}`);
    }
    await compareWith(context, others, governance, query);
    const batch = await canonicalSafeContract(client, 'MultiSendCallOnly');
    const batches = [file?.multiSend, batch].filter((one): one is Address => one !== undefined);
    return { governance, known: knownContracts(governance, batches) };
  };
  const serviceUrl = options.service ?? env['SAFE_SERVICE_URL'];
  return {
    path: (name) => resolve(context.directory, name),
    ...{ chain, client, others, file, filePath, kms, read, fromBlock, maxCost: costValue(options.maxCost) },
    dryRun: options.dryRun === true,
    findAccount: async () =>
      hasKey || configured?.private_key_file !== undefined ? (await chain.signer()).account : undefined,
    service: (safe) =>
      serviceUrl === undefined || serviceUrl === ''
        ? undefined
        : transactionService(serviceUrl, {
            ...{ chainId: chain.chain.id, safe, apiKey: env['SAFE_API_KEY'], signal: context.signal },
          }),
  };
}

/** An endpoint that does not answer is passed over, as long as one more can confirm what the next one says. */
async function firstThatAnswers(
  { warn }: Context,
  urls: readonly string[],
  connect: (url: string) => Promise<TaskChain>,
): Promise<{ chain: TaskChain; at: number }> {
  for (const [at, url] of urls.entries()) {
    try {
      return { chain: await connect(url), at };
    } catch (error) {
      const isSilent = error instanceof ContractsError && error.code === 'chain-unreachable';
      if (!isSilent || at + 2 >= urls.length) throw error;
      warn(`${error.message}: the next endpoint is asked`);
    }
  }
  throw new CliError('bad_argument', 'No endpoint is named');
}

/** Other endpoints have to say the same of the same block. */
async function compareWith(
  context: Context,
  others: readonly PublicClient[],
  governance: Governance,
  query: { kms: Address; fromBlock: bigint },
): Promise<void> {
  const { number } = governance.block;
  const read = (client: PublicClient): Promise<Governance> =>
    readGovernance(client, { ...query, block: number });
  for (const other of await fromOthers(context, others, read)) {
    const difference = sameGovernance(governance, other);
    if (difference !== undefined) throw disagreement(difference.what, difference.one, difference.other);
  }
}

/** The governance file of the folder, or that of `--governance`, which then has to be there. */
export async function openGovernanceFile(
  { directory }: Pick<Context, 'directory'>,
  { governance }: Pick<GovOptions, 'governance'>,
  { mayBeNew = false }: { readonly mayBeNew?: boolean } = {},
): Promise<{ path: string; file: GovernanceFile | undefined }> {
  const path = resolve(directory, governance ?? 'governance.json');
  return { path, file: await readFile(path, governance !== undefined && !mayBeNew) };
}

async function readFile(path: string, isNamed: boolean): Promise<GovernanceFile | undefined> {
  try {
    return readGovernanceFile(new TextDecoder().decode(await readFileBounded(path, MAX_FILE)), path);
  } catch (error) {
    if (!isNamed && (error as { code?: string }).code === 'file-missing') return undefined;
    throw error;
  }
}

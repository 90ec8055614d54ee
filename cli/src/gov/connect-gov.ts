import { resolve } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import {
  addressValue,
  connectTask,
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
import { type Address, createPublicClient, http, type LocalAccount, type PublicClient } from 'viem';
import { readAccount } from '../chain/connect.ts';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';

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
  readonly dryRun?: boolean;
};

/** What is known at one block. */
export type GovView = { readonly governance: Governance; readonly known: KnownContracts };

/** A chain, the domain on it, and who acts. */
export type GovSession = {
  readonly chain: TaskChain;
  readonly client: PublicClient;
  /** Of SECOND_RPC_URL: whatever decides is read there too, and must be the same. */
  readonly second: PublicClient | undefined;
  readonly file: GovernanceFile | undefined;
  /** Path of that file, also when there is none. */
  readonly filePath: string;
  readonly dryRun: boolean;
  /** Where the contracts were deployed, or earlier. */
  readonly fromBlock: bigint;
  kms(): Address;
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

/** Connects to the chain of the configuration, or to that of `--network`. */
export async function connectGov(context: Context, options: GovOptions): Promise<GovSession> {
  const filePath = resolve(context.directory, options.governance ?? 'governance.json');
  const file = await readFile(filePath, options.governance !== undefined);
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
  const chain = await connectTask({
    name: options.network ?? (configured === undefined ? 'test' : 'the chain of the configuration'),
    network: { rpcUrl: rpc.rpcUrl, ...(rpc.chainId !== undefined && { chainId: rpc.chainId }) },
    ...{ kms, account, timeoutMs },
  });
  if (file !== undefined && file.chainId !== chain.chain.id) {
    throw new CliError('bad_config', `${filePath} is of another chain`, {
      ...{ expected: `chain ${file.chainId}`, found: `chain ${chain.chain.id}` },
      hint: 'Choose the network with --network, or another file with --governance',
    });
  }
  const client = chain.public as unknown as PublicClient;
  const fromBlock = BigInt(wholeNumber('--from-block', options.fromBlock) ?? file?.fromBlock ?? 0);
  const isLocal = /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(new URL(rpc.rpcUrl).hostname);
  const maxAge = wholeNumber('--max-block-age', options.maxBlockAge) ?? (isLocal ? 0 : MAX_BLOCK_AGE_S);
  // An empty list is none, if it was given; in the file it is one that nobody kept.
  const listed = options.app ?? (file === undefined || file.apps.length === 0 ? undefined : file.apps);
  const apps = listed?.map((app) => addressValue('--app', app));

  const second = secondClient(env['SECOND_RPC_URL'], timeoutMs);

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
    if (second !== undefined) await compareWith(second, governance, query);
    const batch = await canonicalSafeContract(client, 'MultiSendCallOnly');
    const batches = [file?.multiSend, batch].filter((one): one is Address => one !== undefined);
    return { governance, known: knownContracts(governance, batches) };
  };
  const serviceUrl = options.service ?? env['SAFE_SERVICE_URL'];
  return {
    ...{ chain, client, second, file, filePath, kms, read, fromBlock },
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

function secondClient(url: string | undefined, timeout: number): PublicClient | undefined {
  if (url === undefined || url === '') return undefined;
  if (!URL.canParse(url)) throw new CliError('bad_argument', 'SECOND_RPC_URL is no URL');
  const transport = http(url, { timeout, retryCount: 1, fetchOptions: { redirect: 'error' } });
  return createPublicClient({ transport }) as PublicClient;
}

/** What an endpoint answers; why it does not is said without its URL, which may hold a key. */
export async function fromSecond<T>({ transport }: PublicClient, answer: Promise<T>): Promise<T> {
  return await answer.catch((error: unknown) => {
    if (error instanceof GovernanceError || error instanceof CliError) throw error;
    const { host } = new URL((transport as { url?: string }).url ?? 'http://unknown');
    throw new GovernanceError('chain-unreachable', `The second endpoint at ${host} does not answer`, {
      hint: 'Check SECOND_RPC_URL, or unset it',
    });
  });
}

/** Another endpoint has to say the same of the same block. */
async function compareWith(
  second: PublicClient,
  governance: Governance,
  query: { kms: Address; fromBlock: bigint },
): Promise<void> {
  const other = await fromSecond(
    second,
    readGovernance(second, { ...query, block: governance.block.number }),
  );
  const difference = sameGovernance(governance, other);
  if (difference === undefined) return;
  throw disagreement(difference.what, difference.one, difference.other);
}

export function disagreement(what: string, expected: string, found: string): GovernanceError {
  return new GovernanceError('chain-inconsistent', `The two endpoints do not agree on ${what}`, {
    ...{ expected, found },
    hint: 'One of them lies, or is on another chain: do nothing until you know which',
  });
}

async function readFile(path: string, isNamed: boolean): Promise<GovernanceFile | undefined> {
  try {
    return readGovernanceFile(new TextDecoder().decode(await readFileBounded(path, MAX_FILE)), path);
  } catch (error) {
    if (!isNamed && (error as { code?: string }).code === 'file-missing') return undefined;
    throw error;
  }
}

/** A whole number of an option. @throws CliError `bad_argument` */
export function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new CliError('bad_argument', `${name} is a whole number`, { found: text });
}

import { stat } from 'node:fs/promises';
import { readFileBounded } from '@dstack-cloud/app';
import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import { rpcTransport } from '@dstack-cloud/contracts/tasks';
import {
  type Abi,
  type Chain,
  createPublicClient,
  defineChain,
  type Hex,
  type LocalAccount,
  type PublicClient,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import type { GlobalConfig } from '../config/global-config.ts';
import { type Context, expandHome } from '../context.ts';
import { CliError, messageOf } from '../errors.ts';
import { clientOf, otherUrls } from './other-endpoints.ts';

/** 64 hex digits, and some room for white space. */
const MAX_KEY_FILE = 4096;

export type ChainConfig = NonNullable<GlobalConfig['chain']>;

export const kmsAbi: Abi = dstackKmsAbi as Abi;
export const appAbi: Abi = dstackAppAbi as Abi;

/** A chain to read from. */
export interface Reader {
  readonly client: PublicClient;
  /** Of SECOND_RPC_URL: they have to say the same. */
  readonly others: readonly PublicClient[];
  readonly chain: Chain;
  readonly kms: Hex;
}

/** A chain to write to. */
export interface Writer extends Reader {
  readonly account: LocalAccount;
}

const TIMEOUT_MS = 10_000;

/**
 * Connects, and checks the chain id when the configuration names one. Throws `chain_unreachable`, `bad_config`.
 * @param context ends what is asked, and names further endpoints; without it there are none
 */
export async function connectReader(
  config: ChainConfig,
  context?: Pick<Context, 'env' | 'signal'>,
): Promise<Reader> {
  const { rpc_url: url } = config;
  const transport = rpcTransport(url, { timeoutMs: TIMEOUT_MS, signal: context?.signal });
  let id: number;
  try {
    id = await createPublicClient({ transport }).getChainId();
  } catch (error) {
    throw new CliError('chain_unreachable', `The chain at ${hostOf(config.rpc_url)} does not answer`, {
      cause: new Error(shortMessage(error)),
      hint: 'Check chain.rpc_url (dstack-cloud config-edit) and that the node runs',
    });
  }
  if (config.chain_id !== undefined && config.chain_id !== id)
    throw new CliError('bad_config', `${hostOf(config.rpc_url)} is another chain`, {
      expected: `chain ${config.chain_id}`,
      found: `chain ${id}`,
      hint: 'Correct chain.rpc_url or chain.chain_id with dstack-cloud config-edit',
    });
  const chain = defineChain({
    id,
    name: `chain ${id}`,
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
    rpcUrls: { default: { http: [config.rpc_url] } },
  });
  const client = createPublicClient({ chain, transport, pollingInterval: id === 31_337 ? 50 : 1_000 });
  const others =
    context === undefined
      ? []
      : otherUrls(context.env['SECOND_RPC_URL']).map((other) => clientOf(other, TIMEOUT_MS, context.signal));
  return { client, others, chain, kms: config.kms_contract as Hex };
}

/** Connects with the account whose key lies in `chain.private_key_file`. Throws `no_key`. */
export async function connectWriter(context: Context, config: ChainConfig): Promise<Writer> {
  const reader = await connectReader(config, context);
  const account = await readAccount(context, config);
  return { ...reader, account };
}

/** The account of `chain.private_key_file`. Throws `no_key`. */
export async function readAccount(context: Context, config: ChainConfig): Promise<LocalAccount> {
  const named = config.private_key_file;
  const missing = (why: string): CliError =>
    new CliError('no_key', `No account to write to the chain with: ${why}`, {
      hint: 'Set chain.private_key_file to a file with the 0x private key (mode 0600)',
    });
  if (named === undefined) throw missing('chain.private_key_file is not set');
  const path = expandHome(context, named);
  const bytes = await readFileBounded(path, MAX_KEY_FILE).catch(() => undefined);
  if (bytes === undefined) throw missing(`${path} cannot be read, or is not a file of a few bytes`);
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0)
    context.warn(`${path} holds a private key and others may read it: chmod 600 ${path}`);
  const key = new TextDecoder().decode(bytes).trim();
  if (!/^(0x)?[0-9a-fA-F]{64}$/.test(key)) throw missing(`${path} holds no private key of 64 hex digits`);
  try {
    return privateKeyToAccount((key.startsWith('0x') ? key : `0x${key}`) as Hex);
  } catch {
    // The message of the library contains the value.
    throw missing(`${path} holds no private key: the value is out of the range of secp256k1`);
  }
}

/** viem's messages run over many lines and may name keys of the URL: the first line is enough. */
export function shortMessage(error: unknown): string {
  const short = (error as { shortMessage?: unknown }).shortMessage;
  return (typeof short === 'string' ? short : messageOf(error)).split('\n')[0] ?? '';
}

function hostOf(url: string): string {
  return new URL(url).host;
}

import { type CodeName, codeNames, MAX_POLICY_DELAY_SECONDS, publicText } from '@dstack-cloud/policy';
import { z } from 'zod';
import { AuthApiError } from './errors.ts';

/** What the environment asks for. */
export type Settings = {
  readonly host: string;
  readonly port: number;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  readonly source: ChainSource | AllowListSource;
};

/** Decide by DstackKms on chain. */
export type ChainSource = {
  readonly type: 'chain';
  readonly rpcUrls: readonly string[];
  readonly kmsContract: string;
  readonly quorum?: number;
  readonly chainId?: number;
  readonly maxBlockAgeSeconds?: number;
  readonly finality?: number | 'safe' | 'finalized';
  readonly headReuseMs?: number;
  readonly reads?: 'calls' | 'proofs';
  readonly lightClientUrl?: string;
  readonly requireTimelockSeconds?: number;
  readonly knownCode?: Readonly<Record<string, CodeName>>;
};

/** Decide by a file in auth-simple's format. */
export type AllowListSource = { readonly type: 'allow-list'; readonly path: string };

const count = (maximum: number): z.ZodType<number | undefined> =>
  z.coerce.number().int().nonnegative().max(maximum).optional();

const environmentSchema = z.object({
  HOST: z.string().min(1).default('127.0.0.1'),
  PORT: z.coerce.number().int().min(0).max(65_535).default(8_000),
  LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  AUTH_CONFIG_PATH: z.string().optional(),
  KMS_CONTRACT_ADDR: z.string().optional(),
  KMS_CONTRACT_ADDRESS: z.string().optional(),
  ETH_RPC_URL: z.string().default('http://localhost:8545'),
  ETH_RPC_URLS: z.string().optional(),
  ETH_RPC_QUORUM: count(100),
  ETH_CHAIN_ID: count(Number.MAX_SAFE_INTEGER),
  ETH_MAX_BLOCK_AGE: count(86_400),
  ETH_FINALITY_CONFIRMATIONS: count(100_000),
  ETH_FINALITY: z.enum(['latest', 'safe', 'finalized']).optional(),
  ETH_HEAD_REUSE_MS: count(10_000),
  ETH_READ: z.enum(['call', 'proof']).optional(),
  ETH_LIGHT_CLIENT_URL: z.string().optional(),
  ETH_REQUIRE_TIMELOCK: count(MAX_POLICY_DELAY_SECONDS).refine(
    (seconds) => seconds !== 0,
    'must be at least 1',
  ),
  ETH_KNOWN_CODE: z.string().optional(),
});
type Environment = z.output<typeof environmentSchema>;

/**
 * Read the settings; a variable that is set to nothing counts as not set.
 * @throws AuthApiError `bad-configuration` naming the variable, its value and the fix
 */
export function settingsFrom(environment: NodeJS.ProcessEnv): Settings {
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const parsed = environmentSchema.safeParse(set);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const name = String(issue?.path[0]);
    throw bad(`${name} is ${shown(set[name])}: ${issue?.message}`);
  }
  const { HOST: host, PORT: port, LOG_LEVEL: logLevel } = parsed.data;
  return { host, port, logLevel, source: sourceFrom(parsed.data) };
}

function sourceFrom(env: Environment): Settings['source'] {
  const kmsContract = env.KMS_CONTRACT_ADDR ?? env.KMS_CONTRACT_ADDRESS;
  if (
    env.KMS_CONTRACT_ADDR &&
    env.KMS_CONTRACT_ADDRESS &&
    env.KMS_CONTRACT_ADDR !== env.KMS_CONTRACT_ADDRESS
  ) {
    throw bad('KMS_CONTRACT_ADDR and KMS_CONTRACT_ADDRESS differ: set one of them');
  }
  if (kmsContract !== undefined && env.AUTH_CONFIG_PATH !== undefined) {
    throw bad('Both KMS_CONTRACT_ADDR (chain) and AUTH_CONFIG_PATH (allow-list) are set: set one of them');
  }
  if (env.AUTH_CONFIG_PATH !== undefined && env.ETH_REQUIRE_TIMELOCK !== undefined) {
    throw bad('ETH_REQUIRE_TIMELOCK is set, and an allow-list has no delay: take one of them out');
  }
  if (env.AUTH_CONFIG_PATH !== undefined) return { type: 'allow-list', path: env.AUTH_CONFIG_PATH };
  if (kmsContract === undefined) {
    throw bad(
      'KMS_CONTRACT_ADDR is not set: give the DstackKms proxy, or AUTH_CONFIG_PATH for an allow-list',
    );
  }
  if (env.ETH_FINALITY !== undefined && env.ETH_FINALITY_CONFIRMATIONS !== undefined) {
    throw bad('Both ETH_FINALITY and ETH_FINALITY_CONFIRMATIONS are set: set one of them');
  }
  const finality = env.ETH_FINALITY === 'latest' ? 0 : (env.ETH_FINALITY ?? env.ETH_FINALITY_CONFIRMATIONS);
  return {
    type: 'chain',
    rpcUrls: (env.ETH_RPC_URLS ?? env.ETH_RPC_URL)
      .split(',')
      .map((url) => url.trim())
      .filter((url) => url !== ''),
    kmsContract,
    ...defined('quorum', env.ETH_RPC_QUORUM),
    ...defined('chainId', env.ETH_CHAIN_ID),
    ...defined('maxBlockAgeSeconds', env.ETH_MAX_BLOCK_AGE),
    ...defined('finality', finality),
    ...defined('headReuseMs', env.ETH_HEAD_REUSE_MS),
    ...(env.ETH_READ === undefined ? {} : { reads: env.ETH_READ === 'proof' ? 'proofs' : 'calls' }),
    ...defined('lightClientUrl', env.ETH_LIGHT_CLIENT_URL),
    ...defined('requireTimelockSeconds', env.ETH_REQUIRE_TIMELOCK),
    ...defined('knownCode', env.ETH_KNOWN_CODE === undefined ? undefined : knownCode(env.ETH_KNOWN_CODE)),
  };
}

/** `<code hash>=<name>`, comma separated. */
function knownCode(text: string): Record<string, CodeName> {
  const entries = text.split(',').map((entry) => {
    const [hash = '', name] = entry.trim().split('=');
    const known = codeNames.find((one) => one === name);
    if (/^0x[0-9a-fA-F]{64}$/.test(hash) && known !== undefined) return [hash, known] as const;
    throw bad(`ETH_KNOWN_CODE has ${shown(entry)}: give 0x<code hash>=<${codeNames.join('|')}>`);
  });
  return Object.fromEntries(entries);
}

function defined<K extends string, T>(key: K, value: T | undefined): Partial<Record<K, T>> {
  return value === undefined ? {} : ({ [key]: value } as Record<K, T>);
}

/** A value that was not understood may be an address with its key, given for the wrong variable. */
function shown(value: string | undefined): string {
  return JSON.stringify(publicText(value ?? '', 128));
}

function bad(message: string): AuthApiError {
  return new AuthApiError('bad-configuration', message);
}

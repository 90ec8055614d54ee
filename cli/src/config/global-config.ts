import { readFileBounded, table } from '@dstack-cloud/app';
import { ROOT_NAMES, type RootName } from '@dstack-cloud/attestation';
import { plainHttpWarnings } from '@dstack-cloud/policy';
import { z } from 'zod';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { parseJsonObject } from './json-comments.ts';
import { unknownKeys } from './unknown-keys.ts';

const MAX_CONFIG_BYTES = 1024 * 1024;
const url = z.url({ protocol: /^https?$/ });
const noUrl = z.union([z.literal(''), url], 'must be an http or https address, or empty');
const rootCa = z.strictObject(
  Object.fromEntries(ROOT_NAMES.map((name) => [name, z.string().min(1).optional()])),
);
const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/, 'must be an address, 0x and 40 hex digits');

/** The global configuration with our additions. */
export interface GlobalConfig {
  /** Platform of new projects. */
  readonly platform?: 'local' | 'gcp' | 'nitro' | undefined;
  readonly services: {
    readonly kms_urls: readonly string[];
    readonly gateway_urls: readonly string[];
    readonly pccs_url: string;
    readonly amd_kds_url: string;
  };
  readonly image_search_paths: readonly string[];
  readonly gcp: Readonly<Record<string, unknown>>;
  readonly nitro: Readonly<Record<string, unknown>>;
  /** KMS signers that may be trusted without a chain: compressed secp256k1 keys by KMS URL. */
  readonly trusted_signers: Readonly<Record<string, string>>;
  /** Where the policy lives and who writes to it. */
  readonly chain?:
    | {
        readonly rpc_url: string;
        readonly kms_contract: string;
        readonly chain_id?: number | undefined;
        /** File with the account's private key, 0x hex; needed only to write. */
        readonly private_key_file?: string | undefined;
        /** `deploy` makes the contract of an app that has none yet; later compose files must be allowed. */
        readonly create_apps: boolean;
      }
    | undefined;
  /** Trust anchors other than the vendors'; whatever they verify is called simulated. */
  readonly attestation: { readonly root_ca: Readonly<Partial<Record<RootName, string | undefined>>> };
  readonly local: {
    readonly run_path: string;
    readonly seed_file: string;
    readonly engine: 'auto' | 'docker' | 'podman' | 'process';
    readonly env: Readonly<Record<string, string>>;
    readonly owner?: { readonly pid: number; readonly start_time: string } | undefined;
    /** Of machines whose app.json names none. */
    readonly driver: 'process' | 'vm';
    /** Program of virtual machines. */
    readonly qemu: string;
    /** Mirror of the public container registry, for virtual machines. */
    readonly docker_registry: string;
  };
}

const schema: z.ZodType<GlobalConfig> = z.looseObject({
  platform: z.enum(['local', 'gcp', 'nitro']).optional(),
  services: z
    .looseObject({
      kms_urls: z.array(url).max(16).default([]),
      gateway_urls: z.array(url).max(16).default([]),
      pccs_url: noUrl.default(''),
      amd_kds_url: noUrl.default(''),
    })
    .prefault({}),
  image_search_paths: z.array(z.string()).default([]),
  gcp: z.looseObject({}).default({}),
  nitro: z.looseObject({}).default({}),
  trusted_signers: table(z.string().regex(/^(0x)?[0-9a-fA-F]{66}$/)).default({}),
  chain: z
    .looseObject({
      rpc_url: url,
      kms_contract: address,
      chain_id: z.int().positive().optional(),
      private_key_file: z.string().optional(),
      create_apps: z.boolean().default(false),
    })
    .optional(),
  // Strict: a root whose name is mistyped would be missed without a word.
  attestation: z.strictObject({ root_ca: rootCa.prefault({}) }).prefault({}),
  local: z
    .looseObject({
      run_path: z.string().default('~/.local/share/dstack-cloud/vm'),
      seed_file: z.string().default('~/.local/share/dstack-cloud/platform.seed'),
      engine: z.enum(['auto', 'docker', 'podman', 'process']).default('auto'),
      env: table(z.string()).default({}),
      owner: z.looseObject({ pid: z.int().positive(), start_time: z.string() }).optional(),
      driver: z.enum(['process', 'vm']).default('process'),
      qemu: z.string().min(1).default('qemu-system-x86_64'),
      docker_registry: noUrl.default(''),
    })
    .prefault({}),
}) as unknown as z.ZodType<GlobalConfig>;

const KNOWN = {
  '': [
    'platform',
    'services',
    'image_search_paths',
    'gcp',
    'nitro',
    'trusted_signers',
    'chain',
    'attestation',
    'local',
  ],
  services: ['kms_urls', 'gateway_urls', 'pccs_url', 'amd_kds_url'],
  chain: ['rpc_url', 'kms_contract', 'chain_id', 'private_key_file', 'create_apps'],
  local: ['run_path', 'seed_file', 'engine', 'env', 'owner', 'driver', 'qemu', 'docker_registry'],
} as const;

/** Reads the global configuration; without a file every default holds. */
export async function loadGlobalConfig(context: Context): Promise<GlobalConfig> {
  const path = context.configPath;
  const text = await readGlobalConfig(path);
  if (text === undefined) {
    if (context.config !== undefined || context.env['DSTACK_CLOUD_CONFIG'])
      throw new CliError('bad_config', `${path} does not exist`, {
        hint: 'Correct --config or DSTACK_CLOUD_CONFIG, or make the file with dstack-cloud config-edit',
      });
    return defaultGlobalConfig();
  }
  const { config, warnings } = parseGlobalConfig(text, path);
  for (const warning of warnings) context.warn(warning);
  return config;
}

/** Text of the global configuration, or undefined when there is none. Throws `bad_config`. */
export async function readGlobalConfig(path: string): Promise<string | undefined> {
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_CONFIG_BYTES);
  } catch (error) {
    if ((error as { code?: string }).code === 'file-missing') return undefined;
    throw new CliError('bad_config', `${path} cannot be read`, {
      cause: error,
      hint: `Check ${path}, or name another file with --config`,
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new CliError('bad_config', `${path} is no UTF-8 text`, {
      cause: error,
      hint: `Save ${path} as UTF-8`,
    });
  }
}

/** What holds without a file. */
export function defaultGlobalConfig(): GlobalConfig {
  return schema.parse({});
}

/** Parses the text of the global configuration. */
export function parseGlobalConfig(text: string, path: string): { config: GlobalConfig; warnings: string[] } {
  const raw = parseJsonObject(text, path, 'bad_config');
  const result = schema.safeParse(raw);
  if (!result.success)
    throw new CliError('bad_config', `${path} is not valid:\n${z.prettifyError(result.error)}`, {
      hint: 'Correct it with dstack-cloud config-edit',
    });
  const warnings = [
    ...unknownKeys(raw, KNOWN),
    // Who may read a sealed environment is learned there.
    ...plainHttpWarnings([['chain.rpc_url', result.data.chain?.rpc_url ?? '']]),
  ];
  return { config: result.data, warnings: warnings.map((text) => `${path}: ${text}`) };
}

import { nearestName } from '@dstack-cloud/encoding';
import { z } from 'zod';

/** Largest number of init scripts. */
const MAX_INIT_SCRIPTS = 5;
/** Largest number of entries of any list in app-compose.json; our own bound. */
const MAX_LIST = 1024;

const U32 = 0xffff_ffff;
const U64 = 0xffff_ffff_ffff_ffffn;
const hex = z.string().regex(/^(?:[0-9a-fA-F]{2})*$/, 'must be hex with an even number of digits and no 0x');
const hex32 = z.string().regex(/^[0-9a-fA-F]{64}$/, 'must be 32 bytes of hex');
const textList = z.array(z.string()).max(MAX_LIST);

/** 1 or 2 as a number, or a canonical decimal string, so that older guests refuse what they do not know. */
const manifestVersion = z.union(
  [
    z.literal([1, 2], { error: 'as a number must be 1 or 2; write newer versions as text, for example "3"' }),
    z
      .string()
      .regex(/^[1-9][0-9]{0,9}$/, 'must be a canonical positive integer, for example "3"')
      .transform(Number)
      .refine((value) => value <= U32, 'is too large'),
  ],
  'must be 1 or 2, or a newer version as text, for example "3"',
);

const SUFFIX: Readonly<Record<string, bigint>> = { K: 1n << 10n, M: 1n << 20n, G: 1n << 30n, T: 1n << 40n };

const MEMORY = 'must be bytes, 0x hex, or a number with K, M, G or T';

/** Bytes as an integer, `0x` hex, or a whole number with K, M, G or T (1024-based). */
const memorySize = z
  .union(
    [
      z.int().min(0, 'cannot be negative').transform(BigInt),
      z.bigint(),
      z
        .string()
        .regex(/^(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,20}[KMGTkmgt]?)$/, MEMORY)
        .transform((text) => {
          const scale = SUFFIX[text.at(-1)?.toUpperCase() ?? ''];
          return scale === undefined ? BigInt(text) : BigInt(text.slice(0, -1)) * scale;
        }),
    ],
    MEMORY,
  )
  .refine((value) => value >= 0n && value <= U64, 'must fit 64 bits');

/** What is demanded must be understood: an unknown member is an error, which names the nearest known one. */
function demands<T extends z.core.$ZodLooseShape>(shape: T) {
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return undefined;
      const { keys } = issue as { readonly keys: readonly string[] };
      return keys
        .map((key) => {
          const near = nearestName(key, Object.keys(shape));
          return `unknown member ${key}${near === undefined ? '' : `; did you mean ${near}?`}`;
        })
        .join('; ');
    },
  });
}

const gpuPolicy = demands({
  attest_gpu: z.boolean().default(true),
  rego: z.string().nullish(),
  allow_devtools: z.boolean().default(false),
  allow_debug: z.boolean().default(false),
  allow_insecure_boot: z.boolean().default(false),
});

const requirements = demands({
  os_version: z.string().nullish(),
  platforms: textList.nullish(),
  tdx_measure_acpi_tables: z.boolean().nullish(),
  launch_token_hash: hex.nullish(),
  gpu_policy: gpuPolicy.nullish(),
  health_check: z.boolean().nullish(),
  health_status_file: z.string().nullish(),
});

const verityVolume = z.object({
  source: z.string(),
  verity_root: hex32,
  target: z.string().startsWith('/', 'must be an absolute path'),
});

const portPolicy = z
  .object({
    ports: z
      .array(z.object({ port: z.int().min(0).max(65535), pp: z.boolean().default(false) }))
      .max(MAX_LIST)
      .default([]),
    restrict_mode: z.boolean().default(false),
  })
  .default({ ports: [], restrict_mode: false });

/** The member of app-compose.json that says which ports may be reached; the others are whatever they are. */
export const portPolicySchema: z.ZodType<Pick<AppComposeMembers, 'port_policy'>> = z.object({
  port_policy: portPolicy,
});

/** The members of app-compose.json that a guest reads; every other member is ignored but measured. */
const members = z.object({
  manifest_version: manifestVersion,
  name: z.string(),
  runner: z.string(),
  features: textList.default([]),
  snapshotter: z.enum(['overlayfs', 'stargz']).nullish(),
  docker_compose_file: z.string().nullish(),
  bash_script: z.string().nullish(),
  docker_config: z.unknown().optional(),
  public_logs: z.boolean().default(false),
  public_sysinfo: z.boolean().default(false),
  public_tcbinfo: z.boolean().default(true),
  kms_enabled: z.boolean().default(false),
  gateway_enabled: z.boolean().default(false),
  tproxy_enabled: z.boolean().default(false),
  local_key_provider_enabled: z.boolean().default(false),
  key_provider: z.enum(['none', 'kms', 'local', 'tpm']).nullish(),
  key_provider_id: hex.default(''),
  seal_approval_key: hex.default(''),
  allowed_envs: textList.default([]),
  no_instance_id: z.boolean().default(false),
  secure_time: z.boolean().default(true),
  storage_fs: z.string().nullish(),
  swap_size: memorySize.default(0n),
  pre_launch_script: z.string().nullish(),
  init_script: z
    .union(
      [z.string().transform((text) => [text]), z.array(z.string()).max(MAX_INIT_SCRIPTS)],
      `must be a text or a list of at most ${MAX_INIT_SCRIPTS}`,
    )
    .nullish(),
  event_log_version: z.literal([1, 2]).default(1),
  port_policy: portPolicy,
  requirements: requirements.nullish(),
  verity_volumes: z
    .array(verityVolume)
    .max(MAX_LIST)
    .refine(
      (volumes) => new Set(volumes.map((volume) => volume.target)).size === volumes.length,
      'must have different targets',
    )
    .default([]),
});

export const appComposeSchema: z.ZodType<AppComposeMembers> = members;

/** Names of the members that a guest reads. */
export const APP_COMPOSE_MEMBERS: readonly string[] = Object.keys(members.shape);

/** Output of {@link appComposeSchema}. */
export interface AppComposeMembers {
  manifest_version: number;
  name: string;
  runner: string;
  features: string[];
  snapshotter?: 'overlayfs' | 'stargz' | null | undefined;
  docker_compose_file?: string | null | undefined;
  bash_script?: string | null | undefined;
  docker_config?: unknown;
  public_logs: boolean;
  public_sysinfo: boolean;
  public_tcbinfo: boolean;
  kms_enabled: boolean;
  gateway_enabled: boolean;
  tproxy_enabled: boolean;
  local_key_provider_enabled: boolean;
  key_provider?: 'none' | 'kms' | 'local' | 'tpm' | null | undefined;
  key_provider_id: string;
  seal_approval_key: string;
  allowed_envs: string[];
  no_instance_id: boolean;
  secure_time: boolean;
  storage_fs?: string | null | undefined;
  swap_size: bigint;
  pre_launch_script?: string | null | undefined;
  init_script?: string[] | null | undefined;
  event_log_version: 1 | 2;
  port_policy: { ports: { port: number; pp: boolean }[]; restrict_mode: boolean };
  requirements?: AppRequirements | null | undefined;
  verity_volumes: { source: string; verity_root: string; target: string }[];
}

/** What an application demands of the machine that runs it; a member that is null or absent demands nothing. */
export interface AppRequirements {
  os_version?: string | null | undefined;
  platforms?: string[] | null | undefined;
  tdx_measure_acpi_tables?: boolean | null | undefined;
  launch_token_hash?: string | null | undefined;
  health_check?: boolean | null | undefined;
  health_status_file?: string | null | undefined;
  gpu_policy?:
    | {
        attest_gpu: boolean;
        rego?: string | null | undefined;
        allow_devtools: boolean;
        allow_debug: boolean;
        allow_insecure_boot: boolean;
      }
    | null
    | undefined;
}

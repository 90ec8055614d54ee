import { isEnvName } from '@dstack-cloud/app';
import { isImageName } from '@dstack-cloud/vmm';
import { z } from 'zod';
import { CliError } from '../errors.ts';
import { checkGcpConfig } from './gcp-config.ts';
import { type NitroConfig, parseNitroConfig } from './nitro-config.ts';
import { checkMembers } from './unknown-members.ts';

const hex20 = z
  .string()
  .regex(/^(0x)?[0-9a-fA-F]{40}$/, 'must be exactly 40 hexadecimal characters')
  .transform((text) => text.replace(/^0x/, '').toLowerCase());
const port = z.int().min(0).max(65_535);

/** `app.json` after both documented shapes were brought into one. */
export interface AppConfig {
  readonly name: string;
  readonly platform: 'local' | 'gcp' | 'nitro';
  readonly os_image: string;
  readonly docker_compose_file: string;
  readonly prelaunch_script: string;
  readonly env_file: string;
  readonly instance_id_seed: string | undefined;
  readonly app_id: string | undefined;
  readonly gateway_enabled: boolean;
  readonly public_logs: boolean;
  readonly public_sysinfo: boolean;
  readonly public_tcbinfo: boolean;
  readonly key_provider: 'kms' | 'local' | 'tpm' | 'none';
  readonly key_provider_id: string;
  /** SPKI DER in hex of the key that may approve another system for what a TPM sealed; empty for none. */
  readonly seal_approval_key: string;
  readonly storage_fs: 'ext4' | 'zfs';
  readonly no_instance_id: boolean;
  readonly secure_time: boolean;
  readonly allowed_envs: readonly string[];
  readonly app_compose_file: string;
  readonly gcp_config: Readonly<Record<string, unknown>>;
  readonly nitro_config: NitroConfig;
  readonly local_config: LocalConfig;
}

/** Settings of platform `local` (ours). */
interface LocalConfig {
  readonly instance_name: string;
  /** Port of the host for the application; 0 for any free one. */
  readonly port: number;
  /** Port of the application inside the machine. */
  readonly container_port: number;
  /** Port of the host for the guest agent; 0 for any free one. */
  readonly agent_port: number;
  readonly engine: 'auto' | 'docker' | 'podman' | 'process' | undefined;
  /** Processes of this host, or a virtual machine; undefined for what the configuration says. */
  readonly driver: 'process' | 'vm' | undefined;
  /** Processors of a virtual machine. */
  readonly cpus: number;
  /** Memory of a virtual machine, MiB. */
  readonly memory: number;
  /** Data disk of a virtual machine, GiB; only grows. */
  readonly data_size: number;
  /** `auto`: KVM where a guest really runs with it. */
  readonly acceleration: 'auto' | 'kvm' | 'tcg';
  /** Seconds that a virtual machine gets from power-on to its application. */
  readonly boot_timeout: number;
  /** Archives and OCI image layouts in the project that the machine loads, so that it needs no registry. */
  readonly images: readonly string[];
}

/** Most archives of container images that a machine loads. */
const MAX_IMAGES = 64;

const bool = (value: boolean) => z.boolean().default(value);
const text = (value: string) => z.string().default(value);

/** What the driver `vm` takes; below that the other one has no use for it either. */
const MEMORY = 'must be 2048, or 2816 or more (MiB)';
const DATA_SIZE = 'must be 1 to 65536 (GiB)';

const localConfig = z.looseObject({
  instance_name: text(''),
  port: port.default(0),
  container_port: port.default(8080),
  agent_port: port.default(0),
  engine: z.enum(['auto', 'docker', 'podman', 'process']).optional(),
  driver: z.enum(['process', 'vm']).optional(),
  cpus: z.int('must be 1 to 512').min(1, 'must be 1 to 512').max(512, 'must be 1 to 512').default(2),
  memory: z.int(MEMORY).min(256, MEMORY).default(2048),
  data_size: z.int(DATA_SIZE).min(1, DATA_SIZE).max(65_536, DATA_SIZE).default(20),
  acceleration: z.enum(['auto', 'kvm', 'tcg']).default('auto'),
  boot_timeout: z.int().min(1).max(86_400).default(900),
  images: z.array(z.string().min(1)).max(MAX_IMAGES).default([]),
});

const members = z.looseObject({
  name: z.string().min(1).max(128).default('myapp'),
  platform: z.enum(['local', 'gcp', 'nitro']).default('gcp'),
  os_image: z
    .string()
    .refine(isImageName, 'must be a name of at most 64 letters, digits and _.-')
    .default('dstack-cloud-0.6.0'),
  docker_compose_file: text('docker-compose.yaml'),
  prelaunch_script: text('prelaunch.sh'),
  env_file: text('.env'),
  instance_id_seed: hex20.optional(),
  app_id: hex20.optional(),
  gateway_enabled: bool(true),
  public_logs: bool(true),
  public_sysinfo: bool(true),
  public_tcbinfo: bool(true),
  key_provider: z.enum(['kms', 'local', 'tpm', 'none']).default('kms'),
  key_provider_id: z
    .string()
    .regex(/^([0-9a-fA-F]{2})*$/, 'must be hex')
    .default(''),
  seal_approval_key: z
    .string()
    .regex(/^([0-9a-fA-F]{2})*$/, 'must be hex, as dstack-cloud seal key prints it')
    .default(''),
  storage_fs: z.enum(['ext4', 'zfs']).default('ext4'),
  no_instance_id: bool(false),
  secure_time: bool(false),
  allowed_envs: z
    .array(z.string().refine(isEnvName, 'must be the name of a variable: letters, digits and _'))
    .max(1024)
    .default([]),
  app_compose_file: text(''),
  gcp_config: z.looseObject({}).default({}),
  nitro_config: z
    .looseObject({})
    .default({})
    .transform((value) => parseNitroConfig(value, 'app.json')),
  local_config: localConfig.prefault({}),
});
const schema = members as unknown as z.ZodType<AppConfig>;

/** Top-level members of the documented flat shape, aliases of the platform's own object. */
const ALIASES = ['instance_name', 'project', 'zone', 'bucket', 'machine_type', 'data_size'] as const;

/** Members of `local_config`; the documented flat shape may put the aliases there too. */
function localMembers(): string[] {
  return [...Object.keys(localConfig.shape), ...ALIASES];
}

/** Brings either shape of `app.json` into one. Throws `bad_app_json` naming the member. */
export function parseAppConfig(
  raw: Readonly<Record<string, unknown>>,
  path: string,
): { config: AppConfig; warnings: string[] } {
  const warnings = checkMembers(raw, [...Object.keys(members.shape), ...ALIASES], path);
  const platform = typeof raw['platform'] === 'string' ? raw['platform'] : 'gcp';
  const place = platform === 'nitro' || platform === 'local' ? `${platform}_config` : 'gcp_config';
  const nested = { ...((raw[place] ?? {}) as Record<string, unknown>) };
  const flat = raw[place] === undefined && ALIASES.some((name) => raw[name] !== undefined);
  for (const name of ALIASES) {
    const value = raw[name];
    if (value === undefined) continue;
    if (nested[name] !== undefined && nested[name] !== value)
      throw new CliError('bad_app_json', `${path}: ${name} and ${place}.${name} differ`, {
        expected: String(nested[name]),
        found: String(value),
        hint: `Keep one of them in ${path}`,
      });
    nested[name] = value;
  }
  if (place === 'gcp_config') checkGcpConfig(nested, path);
  if (place === 'nitro_config') parseNitroConfig(nested, path);
  if (place === 'local_config') warnings.push(...checkMembers(nested, localMembers(), path, place));
  const shaped: Record<string, unknown> = { ...raw, [place]: nested };
  // Platforms local and nitro have no gateway, so nobody who did not ask for one shall be refused for it.
  if (platform === 'local' || platform === 'nitro') shaped['gateway_enabled'] ??= false;
  if (raw['name'] === undefined && typeof nested['instance_name'] === 'string')
    shaped['name'] = nested['instance_name'];
  if (flat && raw['key_provider'] === undefined) {
    shaped['key_provider'] = 'local';
    warnings.push(`${path} names no key_provider; the documented default of this shape is local`);
  }
  const result = schema.safeParse(shaped);
  if (!result.success)
    throw new CliError('bad_app_json', `${path} is not valid:\n${z.prettifyError(result.error)}`, {
      hint: `Correct ${path}`,
    });
  return { config: result.data, warnings };
}

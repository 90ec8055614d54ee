import { z } from 'zod';
import { unknownKeys } from '../config/unknown-keys.ts';
import { CliError } from '../errors.ts';

const text = z.string().default('');
const port = z.int().min(1).max(65_535);
const vsockPort = z.int().min(1).max(0xffff_fffe);
const mapping = z.discriminatedUnion('direction', [
  z.strictObject({ direction: z.literal('egress'), vsock_port: vsockPort, target: z.string().min(1) }),
  z.strictObject({
    direction: z.literal('ingress'),
    listen: z.string().regex(/^.+:\d{1,5}$/, 'must be ADDRESS:PORT'),
    enclave_port: vsockPort,
  }),
]);

/** `nitro_config` of app.json: what the enclave is made from, and where it runs. */
export interface NitroConfig {
  /** `local` runs the enclave on this host, simulated. */
  readonly host: 'aws' | 'local';
  readonly region: string;
  readonly instance_name: string;
  readonly instance_type: string;
  readonly ami: string;
  readonly subnet_id: string;
  readonly security_group_ids: readonly string[];
  readonly key_name: string;
  readonly instance_profile: string;
  /** Private bucket for the enclave image; the parent fetches it from there. */
  readonly bucket: string;
  /** How commands reach the parent instance. */
  readonly access: 'ssm' | 'ssh';
  /** Access `ssh`: who logs in, with which private key (empty for an agent), where, and the host's public key. */
  readonly ssh_user: string;
  readonly key_path: string;
  readonly ssh_host: string;
  readonly ssh_port: number;
  /** Empty to ask AWS, by the console of the instance. */
  readonly ssh_host_key: string;
  /** Addresses that the security group lets in to `ssh_port`. */
  readonly ssh_sources: readonly string[];
  readonly ebs_size: number;
  /** Container image from this file of the project; empty to build `dockerfile`. */
  readonly image: string;
  readonly dockerfile: string;
  /** A prebuilt enclave image instead. */
  readonly eif: string;
  /** Folder with kernel, command line and init as nitro-cli installs them. */
  readonly blobs: string;
  /** PCR 1 that these must give: hex, `aws` for those that AWS publishes, `any`. */
  readonly pcr1: string;
  readonly cpu_count: number;
  readonly memory_mib: number;
  readonly enclave_cid: number;
  readonly debug: boolean;
  /** Targets that the enclave reaches beside its KMS, `HOST:PORT`. */
  readonly allow: readonly string[];
  readonly allow_private: boolean;
  readonly vsock: readonly NitroMapping[];
  /** Instead of the first of `services.kms_urls`. */
  readonly kms_url: string;
  readonly root_ca: string;
}

type NitroMapping =
  | { readonly direction: 'egress'; readonly vsock_port: number; readonly target: string }
  | { readonly direction: 'ingress'; readonly listen: string; readonly enclave_port: number };

const members = z.looseObject({
  host: z.enum(['aws', 'local']).default('aws'),
  region: text,
  instance_name: text,
  instance_type: z.string().min(1).default('c5.xlarge'),
  ami: text,
  subnet_id: text,
  security_group_ids: z.array(z.string().min(1)).max(16).default([]),
  key_name: text,
  instance_profile: text,
  bucket: text,
  access: z.enum(['ssm', 'ssh']).default('ssm'),
  ssh_user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}$/, 'must be the name of a user')
    .default('ec2-user'),
  key_path: text,
  ssh_host: z
    .string()
    .regex(/^[0-9A-Za-z.:-]*$/, 'must be an address or a name')
    .default(''),
  ssh_port: port.default(22),
  ssh_host_key: text,
  ssh_sources: z.array(z.string().min(1)).max(16).default([]),
  ebs_size: z.int().min(8).max(16_384).default(20),
  image: text,
  dockerfile: z.string().min(1).default('Dockerfile'),
  eif: text,
  blobs: text,
  pcr1: z
    .string()
    .regex(/^([0-9a-fA-F]{96}|aws|any|)$/, 'must be 96 hex digits, aws or any')
    .default(''),
  cpu_count: z.int().min(1).max(128).default(2),
  memory_mib: z.int().min(64).max(4_194_304).default(2048),
  enclave_cid: z.int().min(4).max(0xffff_fffe).default(16),
  debug: z.boolean().default(false),
  allow: z
    .array(z.string().regex(/:\d{1,5}$/, 'must be HOST:PORT'))
    .max(63)
    .default([]),
  allow_private: z.boolean().default(false),
  vsock: z.array(mapping).max(64).default([]),
  kms_url: text,
  root_ca: z.string().min(1).default('app/root_ca.pem'),
});
const schema = members as unknown as z.ZodType<NitroConfig>;
const KNOWN = { '': Object.keys(members.shape) };

/**
 * Checks `nitro_config` and fills in what it does not say. `_comment…` members are comments.
 *
 * @param path of app.json
 * @throws CliError `bad_app_json` naming the member
 */
export function parseNitroConfig(value: Readonly<Record<string, unknown>>, path: string): NitroConfig {
  const fail = (problem: string): never => {
    throw new CliError('bad_app_json', `${path}: ${problem}`, { hint: `Correct nitro_config in ${path}` });
  };
  const [unknown] = unknownKeys(value, KNOWN);
  if (unknown !== undefined) fail(`nitro_config: ${unknown}`);
  const result = schema.safeParse(value);
  const [issue] = result.error?.issues ?? [];
  if (issue !== undefined) fail(`${['nitro_config', ...issue.path].join('.')}: ${issue.message}`);
  const config = result.data as NitroConfig;
  if (config.image !== '' && config.eif !== '') fail('nitro_config: image and eif are two sources; keep one');
  for (const one of config.vsock) if (one.direction === 'ingress') listenAddress(one.listen, fail);
  if (config.debug)
    fail(
      'nitro_config.debug: a debug enclave shows its memory to the host and has zero registers: no key service gives it keys',
    );
  return config;
}

/** Address and port that an ingress mapping listens at. */
export function listenAddress(
  listen: string,
  fail: (problem: string) => never,
): { readonly address: string; readonly port: number } {
  const [, address = '', digits = ''] = /^(.+):(\d{1,5})$/.exec(listen) ?? [];
  const number = Number(digits);
  if (!port.safeParse(number).success) fail(`nitro_config.vsock: ${listen} has no port`);
  return { address: address.replace(/^\[(.*)\]$/, '$1'), port: number };
}

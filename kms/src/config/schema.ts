import { table } from '@dstack-cloud/app';
import { ATTESTATION_MODES, GCE_TDX_PCR0, TCB_STATUSES } from '@dstack-cloud/attestation';
import { codeNames, MAX_POLICY_DELAY_SECONDS } from '@dstack-cloud/policy';
import { z } from 'zod';
import { servedNameProblem } from './domain.ts';
import { parseDuration, parseSize } from './duration.ts';
import type { FileConfig } from './kms-config.ts';

const port = z.int().min(0).max(65_535);
const hex = (bytes: number): z.ZodString =>
  z.string().regex(new RegExp(`^(0x)?[0-9a-fA-F]{${bytes * 2}}$`), `must be ${bytes} bytes of hex`);
const DURATION = 'must be a duration such as "90s", "2m", "1h" or "1d"';
const duration = z.string(DURATION).transform((text, context) => {
  const seconds = parseDuration(text);
  if (seconds !== undefined) return seconds;
  context.addIssue({ code: 'custom', message: DURATION });
  return z.NEVER;
});
const SIZE = 'must be a size such as "64MiB" or "2GiB", or a number of bytes';
const size = z.union([z.string(), z.int()], SIZE).transform((text, context) => {
  const bytes = parseSize(text);
  if (bytes !== undefined && bytes > 0) return bytes;
  context.addIssue({ code: 'custom', message: SIZE });
  return z.NEVER;
});
const TIMELOCK = `must be 1 to ${MAX_POLICY_DELAY_SECONDS} seconds, or a duration such as "1d": the contracts allow no longer delay`;
/** A record whose keys have a form says which; zod alone says that a key is invalid. */
const keyedBy = (problem: string) => ({
  error: ({ code }: { code?: string }) => (code === 'invalid_key' ? problem : undefined),
});
/** More than this is no machine but a typing error. */
export const MAX_WORKERS = 64;
const u32 = z.int().min(0).max(0xffff_ffff);
const optionalFile = z.string().min(1).optional();

/** The settings of the original's HTTP server. Its other hints are read so that its files load, without effect here. */
const serverHints = {
  /** Processes that serve; one per core by default. */
  workers: z.int().min(1).max(MAX_WORKERS).optional(),
  max_blocking: z.int().min(1).optional(),
  ident: z.string().optional(),
  temp_dir: z.string().optional(),
  keep_alive: z.int().min(0).optional(),
  log_level: z.string().optional(),
};

const rpc = z.strictObject({
  ...serverHints,
  address: z.string().default('0.0.0.0'),
  port: port.default(8000),
  tls: z
    .strictObject({
      key: z.string().optional(),
      certs: z.string().optional(),
      mutual: z
        .strictObject({ ca_certs: z.string().optional(), mandatory: z.literal(false).default(false) })
        .prefault({}),
      handshake_timeout: duration.prefault('5s'),
      max_connections: z.int().min(1).max(65_536).default(4096),
      /** A quarter of them by default, at least 64. */
      max_connections_per_address: z.int().min(1).max(65_536).optional(),
      max_handshakes: z.int().min(1).max(65_536).default(512),
      max_handshakes_per_address: z.int().min(1).max(65_536).default(64),
    })
    .prefault({}),
  /** Body limits by method: "1MiB", "64KiB" or bytes. */
  limits: table(z.union([z.string(), z.int().min(1)], SIZE)).default({}),
});

function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

function isImageUrl(template: string): boolean {
  if (!template.includes('{OS_IMAGE_HASH}') || !URL.canParse(template)) return false;
  const { protocol, username, password } = new URL(template);
  return (protocol === 'http:' || protocol === 'https:') && username === '' && password === '';
}

const image = z.strictObject({
  verify: z.boolean().default(true),
  cache_dir: z.string().default('/usr/share/dstack/images'),
  download_url: z
    .string()
    .refine(isImageUrl, 'must be an http or https address with {OS_IMAGE_HASH} and without password')
    .default('http://localhost:8000/{OS_IMAGE_HASH}.tar.gz'),
  download_timeout: duration.prefault('2m'),
  max_download_size: size.prefault('2GiB'),
  max_unpacked_size: size.prefault('8GiB'),
  gcp_allowed_pcr0: z.array(hex(32)).default([GCE_TDX_PCR0]),
});

const authApi = z.strictObject({
  type: z.enum(['webhook', 'dev', 'chain', 'allow-list']).optional(),
  webhook: z
    .strictObject({ url: z.string().optional(), timeout: duration.prefault('10s'), ca_cert: optionalFile })
    .prefault({}),
  chain: z
    .strictObject({
      rpc_urls: z.array(z.string().min(1)).default([]),
      kms_contract: z.string().optional(),
      chain_id: z.int().min(1).optional(),
      quorum: z.int().min(1).optional(),
      max_block_age: duration.prefault('60s'),
      finality: z
        .union(
          [z.enum(['latest', 'safe', 'finalized']), z.int().min(0)],
          'must be "latest", "safe", "finalized" or a number of blocks',
        )
        .default('latest'),
      head_reuse_ms: z.int().min(0).max(10_000).default(1_000),
      read: z.enum(['call', 'proof']).default('call'),
      light_client_url: z.string().refine(isHttpUrl, 'must be an http or https address').optional(),
      require_timelock: z
        .union([z.int(), duration], TIMELOCK)
        .refine((seconds) => seconds >= 1 && seconds <= MAX_POLICY_DELAY_SECONDS, TIMELOCK)
        .optional(),
      known_code: z
        .record(
          z.string().regex(/^0x[0-9a-fA-F]{64}$/),
          z.enum(codeNames),
          keyedBy('must be named by a code hash: 0x and 64 digits'),
        )
        .default({}),
    })
    .prefault({}),
  allow_list: z.strictObject({ file: optionalFile }).prefault({}),
  dev: z
    .strictObject({
      gateway_app_id: z.string().default('any'),
      dangerously_allow_everything: z.boolean().default(false),
    })
    .prefault({}),
});

/** Existing keys may be those of a host with an underscore in its name; new ones are not made for it. */
const isServedName = (name: string): boolean => name === '' || servedNameProblem(name) === undefined;

const onboard = z.strictObject({
  enabled: z.boolean().default(true),
  auto_bootstrap_domain: z.string().refine(isServedName, 'must be a DNS name or an IP address').default(''),
  quote_enabled: z.boolean().default(true),
  address: z.string().default('0.0.0.0'),
  port: port.default(8000),
  token: z.string().default(''),
  auth_token: z.string().default(''),
  htpasswd_file: z.string().default(''),
  expected_k256_pubkey: hex(33).optional(),
  expected_ca_pubkey: hex(91).optional(),
});

const svn = z.int().min(0).max(255).optional();
const snpTcb = z.strictObject({ fmc: svn, boot_loader: svn, tee: svn, snp: svn, microcode: svn });

const attestation = z.strictObject({
  insecure_allow_external_trust_anchors: z.boolean().default(false),
  urls: z.strictObject({ pccs: z.string().optional(), amd_kds: z.string().optional() }).prefault({}),
  root_ca: z
    .strictObject({
      tdx: optionalFile,
      gcp_tpm: optionalFile,
      aws_nitro_enclave: optionalFile,
      aws_nitro_tpm: optionalFile,
      sev_snp_milan: optionalFile,
      sev_snp_genoa: optionalFile,
      sev_snp_turin: optionalFile,
    })
    .prefault({}),
  /** Local patch level policy; without statuses the policy source alone decides. */
  accepted_tcb_statuses: z.array(z.enum(TCB_STATUSES)).optional(),
  /** The same for one kind of evidence, instead of the line above. */
  tcb: z
    .partialRecord(
      z.enum(ATTESTATION_MODES),
      z.strictObject({
        accepted_statuses: z.array(z.enum(TCB_STATUSES)).default(['UpToDate']),
        accepted_advisories: z.array(z.string()).optional(),
      }),
    )
    .default({}),
  /** What the status does not tell of an AMD platform. */
  snp: z
    .strictObject({
      minimum_tcb: z.partialRecord(z.enum(['Milan', 'Genoa', 'Turin']), snpTcb).default({}),
      accept_unchecked_aliases: z.boolean().default(false),
    })
    .prefault({}),
  /** Refuse Nitro Enclave evidence without a fresh nonce of `GET /nonce`. */
  require_nonce: z.boolean().default(false),
  /** Firmware of simulated GCP machines has no endorsement of Google's. */
  insecure_skip_gcp_firmware_endorsement: z.boolean().default(false),
  cache_dir: optionalFile,
});

const admin = z.strictObject({
  enabled: z.boolean().default(false),
  address: z.string().default('127.0.0.1'),
  port: port.default(8001),
  auth_token: z.string().default(''),
  htpasswd_file: z.string().default(''),
  insecure_no_auth: z.boolean().default(false),
});

const rateLimit = z.strictObject({
  enabled: z.boolean().default(true),
  attested_per_minute: z.int().min(1).default(10),
  attested_burst: z.int().min(0).default(20),
  app_per_minute: z.int().min(1).default(600),
  app_burst: z.int().min(0).default(600),
  open_per_minute: z.int().min(1).default(60),
  open_burst: z.int().min(0).default(60),
  refused_evidence_per_minute: z.int().min(1).default(120),
  refused_evidence_burst: z.int().min(0).default(120),
  /** A set of Intel's collateral is four requests. */
  collateral_per_minute: z.int().min(4).default(40),
  vendor_per_minute: z.int().min(4).default(400),
  network_cost_per_minute: z.int().min(1).default(600),
  network_cost_burst: z.int().min(1).default(120),
  max_verifications: z.int().min(1).max(10_000).default(64),
});

const audit = z.strictObject({
  enabled: z.boolean().default(true),
  /** Directory of the log; `<cert_dir>/audit` when absent. */
  dir: optionalFile,
  max_segment_bytes: z
    .int()
    .min(4096)
    .default(64 * 1024 * 1024),
  keep_segments: z.int().min(1).optional(),
});

/** Id of a root, in lower case without 0x. */
const rootId = hex(20).transform((text) => text.toLowerCase().replace(/^0x/, ''));
/** A table by app id, in lower case without 0x. */
function byApp<T extends z.ZodType>(pattern: RegExp, problem: string, entry: T) {
  return z
    .record(z.string().regex(pattern), entry, keyedBy(problem))
    .default({})
    .transform((table, context): Record<string, z.output<T>> => {
      const entries = Object.entries(table).map(
        ([app, value]) => [app.toLowerCase().replace(/^0x/, ''), value] as const,
      );
      const found = new Map(entries);
      if (found.size === entries.length) return Object.fromEntries(found);
      context.addIssue({ code: 'custom', message: 'names an app twice' });
      return z.NEVER;
    });
}

const keyEpochs = byApp(
  /^(0x)?[0-9a-fA-F]{40}$/,
  'must be named by an app id, 20 bytes of hex',
  z.strictObject({ epoch: u32, min: u32.optional() }),
);
const keyRoots = byApp(
  /^((0x)?[0-9a-fA-F]{40}|\*)$/,
  'must be named by an app id, 20 bytes of hex, or "*" for all others',
  z.strictObject({ root: rootId.optional(), previous: z.array(rootId).max(64).default([]) }),
);

const core = z.strictObject({
  cert_dir: z.string().default('/etc/kms/certs'),
  subject_postfix: z.string().default('.dstack'),
  admin_token_hash: z.union([hex(32), z.literal('')], 'must be 32 bytes of hex, or empty').default(''),
  pccs_url: z.string().optional(),
  site_name: z.string().default(''),
  enforce_self_authorization: z.boolean().default(true),
  attest_rpc_cert: z.boolean().default(true),
  sev_snp_key_release: z.boolean().default(false),
  aws_nitro_tpm_key_release: z.boolean().default(false),
  nitro_enclave_key_release: z.boolean().default(true),
  /** With auth type dev: who may have the root keys, by mr_aggregated. */
  dev_kms_allowed_mr_aggregated: z.array(hex(32)).default([]),
  key_epochs: keyEpochs,
  key_roots: keyRoots,
  image: image.prefault({}),
  auth_api: authApi.prefault({}),
  onboard: onboard.prefault({}),
  attestation: attestation.prefault({}),
  admin: admin.prefault({}),
  metrics: z.strictObject({ enabled: z.boolean().default(true) }).prefault({}),
  temp_ca: z.strictObject({ enabled: z.boolean().default(true) }).prefault({}),
  rate_limit: rateLimit.prefault({}),
  audit: audit.prefault({}),
});

/** `kms.toml` of the original and our additions; every table is optional. */
export const configSchema: z.ZodType<FileConfig> = z.strictObject({
  default: z.strictObject(serverHints).prefault({}),
  rpc: rpc.prefault({}),
  core: core.prefault({}),
});

export type TableIssue = {
  readonly path: readonly string[];
  readonly message: string;
  /** Keys that the schema does not know, below `path`. */
  readonly unknownKeys?: readonly string[];
};

/** Checks a merged table against the schema and fills in the defaults. */
export function parseTable(raw: unknown): { config: FileConfig } | { issues: readonly TableIssue[] } {
  const parsed = configSchema.safeParse(raw);
  if (parsed.success) return { config: parsed.data };
  return {
    issues: parsed.error.issues.map((issue) => ({
      path: issue.path.map(String),
      message: issue.message,
      ...(issue.code === 'unrecognized_keys' ? { unknownKeys: issue.keys } : {}),
    })),
  };
}

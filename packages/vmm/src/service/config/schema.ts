import { z } from 'zod';
import { LOCAL_KEY_PROVIDER } from '../../host-api/key-provider.ts';
import { PCI_SLOT } from '../../manifest/pci-slot.ts';
import { parseRegistry } from '../registry/registry-address.ts';
import type { VmmConfig } from './vmm-config.ts';

const port = z.int().min(0).max(65_535);
const path = z.string().min(1);
const urls = z.array(z.url({ protocol: /^https?$/ })).max(64);
const url = z.union(
  [z.literal(''), z.url({ protocol: /^https?$/ })],
  'must be an http or https address, or empty',
);
/** As the kernel bounds names of interfaces; empty for none. */
const bridge = z.string().regex(/^[A-Za-z0-9_.-]{0,15}$/, 'must be the name of a bridge');

const slots = z
  .array(z.string().regex(PCI_SLOT, 'must be the address of a device, such as 18:00.0'))
  .max(256);

const portRange = z
  .strictObject({
    protocol: z.enum(['tcp', 'udp']),
    from: z.int().min(1).max(65_535),
    to: z.int().min(1).max(65_535),
  })
  .refine(({ from, to }) => from <= to, 'from is above to');

const networking = z.strictObject({
  mode: z.enum(['user', 'bridge']).default('user'),
  bridge: bridge.default(''),
  // Refused, as an operator would take its guests for confined who are not.
  net: z.literal('10.0.2.0/24', 'can only be 10.0.2.0/24: QEMU’s own').default('10.0.2.0/24'),
  restrict: z.literal(false, 'can only be false: this version does not confine guests').default(false),
});

const cvm = z.strictObject({
  qemu_path: z.string().default(''),
  platform: z.enum(['auto', 'tdx', 'simulated-tdx']).default('auto'),
  simulated_tee_seed: z.string().default(''),
  acceleration: z.enum(['auto', 'kvm', 'tcg']).default('auto'),
  kms_urls: urls.default([]),
  gateway_urls: urls.default([]),
  pccs_url: url.default(''),
  docker_registry: z.string().default(''),
  cid_start: z.int().min(2).max(0xffff_0000).default(1000),
  cid_pool_size: z.int().min(2).max(65_536).default(1000),
  max_cvm_number: z.int().min(1).max(65_535).default(100),
  max_allocable_vcpu: z.int().min(1).max(65_536).default(20),
  max_allocable_memory_in_mb: z.int().min(256).max(0x7fff_ffff).default(100_000),
  max_disk_size_in_gb: z.int().min(1).max(65_536).default(1024),
  boot_timeout: z.int().min(1).max(86_400).default(900),
  qgs_port: port.default(4050),
  tpm: z.enum(['none', 'swtpm']).default('none'),
  allow_dev_image: z.boolean().default(false),
  networking: networking.prefault({}),
  port_mapping: z
    .strictObject({
      enabled: z.boolean().default(false),
      address: z.string().default('127.0.0.1'),
      range: z
        .array(portRange)
        .max(64)
        .default([{ protocol: 'tcp', from: 1, to: 20_000 }]),
    })
    .prefault({}),
  auto_restart: z
    .strictObject({
      enabled: z.boolean().default(true),
      interval: z.int().min(1).max(86_400).default(20),
      max_retries: z.int().min(0).max(1000).default(5),
      initial_backoff: z.int().min(1).max(86_400).default(5),
      max_backoff: z.int().min(1).max(86_400).default(300),
      reset_window: z.int().min(1).max(86_400).default(300),
    })
    .prefault({}),
  gpu: z
    .strictObject({
      enabled: z.boolean().default(false),
      listing: z
        .array(z.string().regex(/^[0-9a-f]{4}:[0-9a-f]{4}$/, 'must be VENDOR:DEVICE in lower-case hex'))
        .max(64)
        .default(['10de:2335']),
      exclude: slots.default([]),
      include: slots.default([]),
      allow_attach_all: z.boolean().default(true),
    })
    .prefault({}),
});

/** `vmm.toml`; every key and table is optional. */
export const configSchema: z.ZodType<VmmConfig> = z.strictObject({
  log_level: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
  address: z.string().min(1).default('unix:./vmm.sock'),
  port: port.default(8080),
  kms_url: url.default(''),
  node_name: z
    .string()
    .regex(/^[A-Za-z0-9_. @~!$^()-]{0,128}$/, 'must be up to 128 letters, digits or marks')
    .default(''),
  image: z
    .strictObject({
      registry: z
        .string()
        .refine(
          (text) => text === '' || parseRegistry(text) !== undefined,
          'must be HOST/REPOSITORY, such as registry.example.com/dstack/images; http:// only on the loopback',
        )
        .default(''),
      registry_auth_file: z.string().default(''),
    })
    .prefault({}),
  image_path: path.default('~/.dstack-vmm/image'),
  run_path: path.default('~/.dstack-vmm/vm'),
  trash_ttl: z
    .int()
    .min(0)
    .max(365 * 86_400)
    .default(86_400),
  tls: z.strictObject({ key: z.string().default(''), certs: z.string().default('') }).prefault({}),
  auth: z
    .strictObject({
      enabled: z.boolean().default(false),
      tokens: z.array(z.string().min(16, 'must have 16 characters at least')).max(64).default([]),
      htpasswd_file: z.string().default(''),
    })
    .prefault({}),
  limits: z
    .strictObject({
      max_connections: z.int().min(8).max(65_536).default(256),
      changes_per_minute: z.int().min(1).max(100_000).default(120),
      log_streams: z.int().min(1).max(4096).default(32),
    })
    .prefault({}),
  discovery: z.strictObject({ enabled: z.boolean().default(true) }).prefault({}),
  cvm: cvm.prefault({}),
  gateway: z
    .strictObject({
      base_domain: z.string().default('localhost'),
      port: port.default(8082),
      agent_port: port.default(8090),
    })
    .prefault({}),
  key_provider: z
    .strictObject({
      enabled: z
        .literal(true, 'can only be true: guests may always ask the key provider of this host')
        .default(true),
      address: z
        .literal(LOCAL_KEY_PROVIDER.host, `can only be ${LOCAL_KEY_PROVIDER.host}`)
        .default(LOCAL_KEY_PROVIDER.host),
      port: z
        .literal(LOCAL_KEY_PROVIDER.port, `can only be ${LOCAL_KEY_PROVIDER.port}`)
        .default(LOCAL_KEY_PROVIDER.port),
    })
    .prefault({}),
});

/** Checks a table and fills in the defaults. */
export function checkTable(
  table: unknown,
): { readonly config: VmmConfig } | { readonly issues: readonly z.core.$ZodIssue[] } {
  const result = configSchema.safeParse(table);
  return result.success ? { config: result.data } : { issues: result.error.issues };
}

import { z } from 'zod';
import type { GatewayConfig } from './gateway-config.ts';

const port = z.int().min(1).max(65_535);
const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };
const DURATION = 'must be a duration such as "5s", "10m", "10h" or "1d"';
/** Seconds. */
const duration = z.string(DURATION).transform((text, context) => {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  if (match !== null && Number(match[1]) > 0) return Number(match[1]) * UNITS[match[2]!]!;
  context.addIssue({ code: 'custom', message: DURATION });
  return z.NEVER;
});
const domain = z
  .string()
  .toLowerCase()
  .regex(
    /^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
    'must be a domain name',
  );

const listenAddress = z
  .string()
  .regex(/^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:]{2,39}\]):\d{1,5}$/, 'must be an IP address and a port');

/** A credential travels there: by TLS, or within this machine. */
const https = z
  .url()
  .refine(
    (url) =>
      url.startsWith('https://') || /^http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(\/|$)/.test(url),
    'must begin with https://',
  );

const timeouts = z.strictObject({
  handshake: duration.prefault('5s'),
  pp_header: duration.prefault('5s'),
  connect: duration.prefault('5s'),
  dns_resolve: duration.prefault('5s'),
  idle: duration.prefault('10m'),
  total: duration.prefault('5h'),
  handshake_stale: duration.prefault('30m'),
});

const proxy = z.strictObject({
  base_domain: domain.default('app.localhost'),
  listen_addr: z.union([z.ipv4(), z.ipv6()]).default('0.0.0.0'),
  listen_port: port.default(8443),
  external_port: port.default(443),
  agent_port: port.default(8090),
  cert_chain: z.string().default(''),
  cert_key: z.string().default(''),
  tls_versions: z
    .array(z.enum(['1.2', '1.3']))
    .min(1)
    .max(2)
    .default(['1.2', '1.3']),
  connect_top_n: z.int().min(0).max(64).default(3),
  balance: z.enum(['fastest-handshake', 'least-connections']).default('fastest-handshake'),
  max_connections_per_app: z.int().min(0).max(1_000_000).default(2000),
  max_connections: z.int().min(1).max(1_000_000).default(65_536),
  max_connections_per_address: z.int().min(1).max(1_000_000).default(1024),
  inbound_pp_enabled: z.boolean().default(false),
  app_address_ns_prefix: z
    .string()
    .regex(/^_[a-z0-9_-]{1,60}$/)
    .default('_dstack-app-address'),
  app_address_ns_compat: z.boolean().default(true),
  app_address_dns_servers: z.array(z.string().min(1)).max(8).default([]),
  timeouts: timeouts.prefault({}),
});

const wg = z.strictObject({
  interface: z
    .string()
    .regex(/^[a-zA-Z0-9_-]{1,15}$/, 'must be a name of at most 15 letters, digits and dashes')
    .default('wg0'),
  driver: z.enum(['auto', 'kernel', 'userspace']).default('auto'),
  private_key: z.string().default(''),
  listen_port: port.default(51_820),
  ip: z.string().default('10.0.0.1/24'),
  reserved_net: z.array(z.string()).min(1).max(64).default(['10.0.0.1/32']),
  client_ip_range: z.string().default('10.0.0.0/25'),
  endpoint: z
    .string()
    .regex(/^[A-Za-z0-9.:[\]-]{1,255}:\d{1,5}$/, 'must be host:port')
    .default('10.0.2.2:51820'),
});

const certbot = z.strictObject({
  enabled: z.boolean().default(false),
  acme_url: z.url({ protocol: /^https$/ }).default('https://acme-staging-v02.api.letsencrypt.org/directory'),
  renew_interval: duration.prefault('1h'),
  renew_before_expiration: duration.prefault('10d'),
  max_dns_wait: duration.prefault('5m'),
  dns_txt_ttl: z.int().min(1).max(86_400).default(60),
  agent_socket: z.string().default(''),
  auto_set_caa: z.boolean().default(true),
  caa_issuer: z.union([z.literal(''), domain]).default(''),
  cloudflare: z
    .strictObject({
      token_file: z.string().min(1),
      api_url: https.default('https://api.cloudflare.com/client/v4'),
    })
    .optional(),
  route53: z
    .strictObject({
      access_key_id: z.string().regex(/^[A-Za-z0-9]{16,128}$/, 'must be the id of an access key'),
      secret_key_file: z.string().min(1),
      endpoint: https.optional(),
    })
    .optional(),
  cloud_dns: z
    .strictObject({
      project: z.string().regex(/^[a-z][a-z0-9.:-]{4,60}$/, 'must be the id of a project'),
      credentials_file: z.string().default(''),
    })
    .optional(),
  webhook: z.strictObject({ url: https, token_file: z.string().min(1) }).optional(),
  rfc2136: z
    .strictObject({
      server: z
        .string()
        .regex(/^([A-Za-z0-9.-]{1,255}:\d{1,5})?$/, 'must be host:port')
        .default(''),
      zone: z.union([z.literal(''), domain]).default(''),
      key_name: z.union([z.literal(''), domain]).default(''),
      key_algorithm: z.enum(['hmac-sha256', 'hmac-sha384', 'hmac-sha512']).default('hmac-sha256'),
      key_file: z.string().default(''),
    })
    .prefault({}),
});

/** The settings of `gateway.toml`, with the names of the original where it has them. */
export const configSchema: z.ZodType<GatewayConfig> = z.strictObject({
  log_level: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  address: z.union([z.ipv4(), z.ipv6()]).default('127.0.0.1'),
  port: port.default(8010),
  tls: z
    .strictObject({
      key: z.string().default(''),
      certs: z.string().default(''),
      mutual: z.strictObject({ ca_certs: z.string().default('') }).prefault({}),
    })
    .prefault({}),
  core: z.strictObject({
    rpc_domain: z.union([z.literal(''), domain]).default(''),
    agent_socket: z.string().default(''),
    state_path: z.string().min(1).default('gateway-state'),
    proxy,
    wg: wg.prefault({}),
    certbot: certbot.prefault({}),
    etcd: z
      .strictObject({
        endpoints: z
          .array(z.url({ protocol: /^https?$/, hostname: /^.+$/ }))
          .max(16)
          .default([]),
        ca: z.string().default(''),
        cert: z.string().default(''),
        key: z.string().default(''),
      })
      .prefault({}),
    admin: z
      .strictObject({
        enabled: z.boolean().default(false),
        address: z.union([z.literal('unix'), listenAddress]).default('unix'),
        auth_token: z.string().max(1_024).default(''),
      })
      .prefault({}),
    metrics: z.strictObject({ address: z.union([z.literal(''), listenAddress]).default('') }).prefault({}),
    recycle: z
      .strictObject({
        enabled: z.boolean().default(true),
        interval: duration.prefault('5m'),
        timeout: duration.prefault('10h'),
      })
      .prefault({}),
  }),
});

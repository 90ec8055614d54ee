import { dirname, resolve } from 'node:path';
import { AppError, knownKeys, readFileBounded } from '@dstack-cloud/app';
import { nearestName } from '@dstack-cloud/encoding';
import { isLoopbackAddress } from '@dstack-cloud/prpc';
import { parse } from 'smol-toml';
import type { z } from 'zod';
import { GatewayError } from '../errors.ts';
import type { GatewayConfig } from './gateway-config.ts';
import { configSchema } from './schema.ts';

const MAX_CONFIG_BYTES = 1 << 20;

/** The first that is there is read when no file is named. */
const STANDARD_FILES = ['gateway.toml', '/etc/gateway/gateway.toml'];

/**
 * The configuration of the file, or of the first standard one; relative paths are relative to its folder.
 * @throws GatewayError `config-unreadable`, `config-invalid` with every key that is wrong
 */
export async function loadConfig(
  file?: string,
  standardFiles: readonly string[] = STANDARD_FILES,
): Promise<GatewayConfig> {
  for (const path of file === undefined ? standardFiles : [file]) {
    const text = await readText(path, file === undefined);
    if (text !== undefined) return withPaths(parseConfig(text, path), dirname(resolve(path)));
  }
  throw new GatewayError(
    'config-unreadable',
    `No configuration: name one with --config, or write ${standardFiles[0]}`,
  );
}

async function readText(path: string, mayBeAbsent: boolean): Promise<string | undefined> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFileBounded(path, MAX_CONFIG_BYTES));
  } catch (cause) {
    if (mayBeAbsent && cause instanceof AppError && cause.code === 'file-missing') return undefined;
    throw new GatewayError(
      'config-unreadable',
      `Configuration ${path} cannot be read: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Checks the text of a configuration; `name` is for messages. @throws GatewayError `config-invalid` */
export function parseConfig(text: string, name: string): GatewayConfig {
  let table: unknown;
  try {
    table = parse(text);
  } catch (cause) {
    // What follows the first line shows the line that is wrong, which may hold a key.
    throw new GatewayError('config-invalid', `${name}: ${(cause as Error).message.split('\n')[0]}`);
  }
  const parsed = configSchema.safeParse(table);
  const problems = (
    parsed.success
      ? [...conflicts(parsed.data), ...listenerConflicts(parsed.data), ...etcdConflicts(parsed.data)]
      : parsed.error.issues.map(issueText)
  ).join('\n  ');
  if (parsed.success && problems === '') return parsed.data;
  throw new GatewayError('config-invalid', `${name} cannot be used:\n  ${problems}`);
}

/** What single keys do not show. */
function conflicts({ core: { proxy, certbot } }: GatewayConfig): string[] {
  const hasFiles = proxy.cert_chain !== '' && proxy.cert_key !== '';
  const { server, zone, key_name, key_file } = certbot.rfc2136;
  if (certbot.enabled) {
    if (hasFiles) return ['core.proxy.cert_chain: certificates come by ACME; remove it, or core.certbot'];
    const { cloudflare, route53, cloud_dns, webhook } = certbot;
    const others = Object.entries({ cloudflare, route53, cloud_dns, webhook }).flatMap(([name, table]) =>
      table === undefined ? [] : [name],
    );
    if (server !== '') others.push('rfc2136');
    if (others.length > 1)
      return [`core.certbot: ${others.join(', ')}: one of them changes the zone, not several`];
    if (others.length === 1 && server === '') return [];
    const missing = Object.entries({ server, zone, key_name, key_file }).filter(([, value]) => value === '');
    if (missing.length > 0) return missing.map(([key]) => `core.certbot.rfc2136.${key}: is needed for ACME`);
    const isBelow = proxy.base_domain === zone || proxy.base_domain.endsWith(`.${zone}`);
    return isBelow ? [] : [`core.certbot.rfc2136.zone: ${proxy.base_domain} is not in the zone ${zone}`];
  }
  return hasFiles ? [] : ['core.proxy.cert_chain, cert_key: are needed, or core.certbot.enabled = true'];
}

/** The listener for guests has a certificate from files or from the guest agent. */
function listenerConflicts({ tls, core: { rpc_domain, agent_socket } }: GatewayConfig): string[] {
  const files = [tls.key, tls.certs, tls.mutual.ca_certs];
  if (rpc_domain === '')
    return files.includes('') ? ['tls.key, certs, mutual.ca_certs: are needed, or core.rpc_domain'] : [];
  return [
    ...(agent_socket === '' ? ['core.agent_socket: is needed for core.rpc_domain'] : []),
    ...(files.some((file) => file !== '')
      ? ['core.rpc_domain: its certificate comes from the guest agent; remove tls, or core.rpc_domain']
      : []),
  ];
}

/** Its members see keys of certificates: by TLS on both sides, or on this machine. */
function etcdConflicts({ core: { etcd } }: GatewayConfig): string[] {
  const isSafe = (url: string): boolean => {
    const { protocol, hostname } = new URL(url);
    return protocol === 'https:' || isLoopbackAddress(hostname.replace(/^\[|\]$/g, ''));
  };
  const open = etcd.endpoints.filter((url) => !isSafe(url));
  const isTls = etcd.endpoints.some((url) => url.startsWith('https:'));
  return [
    ...open.map((url) => `core.etcd.endpoints: ${url} is reached without TLS; use https`),
    ...(['ca', 'cert', 'key'] as const)
      .filter((key) => isTls && etcd[key] === '')
      .map((key) => `core.etcd.${key}: is needed for https`),
  ];
}

function issueText(issue: z.core.$ZodIssue): string {
  const key = issue.path.join('.');
  if (issue.code !== 'unrecognized_keys')
    return `${key}: ${/private_key$|auth_token$/.test(key) ? 'is not accepted' : issue.message}`;
  return issue.keys
    .map((unknown) => {
      const nearest = nearestName(unknown, knownKeys(configSchema, issue.path));
      return `${[...issue.path, unknown].join('.')}: unknown key${nearest === undefined ? '' : `; did you mean "${nearest}"?`}`;
    })
    .join('\n  ');
}

function withPaths(config: GatewayConfig, folder: string): GatewayConfig {
  const at = (path: string): string => resolve(folder, path);
  const orNone = (path: string): string => (path === '' ? '' : at(path));
  const { tls, core } = config;
  return {
    ...config,
    tls: {
      key: orNone(tls.key),
      certs: orNone(tls.certs),
      mutual: { ca_certs: orNone(tls.mutual.ca_certs) },
    },
    core: {
      ...core,
      state_path: at(core.state_path),
      agent_socket: orNone(core.agent_socket),
      etcd: {
        ...core.etcd,
        ca: orNone(core.etcd.ca),
        cert: orNone(core.etcd.cert),
        key: orNone(core.etcd.key),
      },
      certbot: {
        ...core.certbot,
        agent_socket: orNone(core.certbot.agent_socket),
        ...providerPaths(core.certbot, orNone),
      },
      proxy: {
        ...core.proxy,
        cert_chain: orNone(core.proxy.cert_chain),
        cert_key: orNone(core.proxy.cert_key),
      },
    },
  };
}

function providerPaths(
  { rfc2136, cloudflare, route53, cloud_dns, webhook }: GatewayConfig['core']['certbot'],
  at: (path: string) => string,
): Partial<GatewayConfig['core']['certbot']> & Pick<GatewayConfig['core']['certbot'], 'rfc2136'> {
  return {
    rfc2136: { ...rfc2136, key_file: at(rfc2136.key_file) },
    ...(cloudflare && { cloudflare: { ...cloudflare, token_file: at(cloudflare.token_file) } }),
    ...(route53 && { route53: { ...route53, secret_key_file: at(route53.secret_key_file) } }),
    ...(cloud_dns && { cloud_dns: { ...cloud_dns, credentials_file: at(cloud_dns.credentials_file) } }),
    ...(webhook && { webhook: { ...webhook, token_file: at(webhook.token_file) } }),
  };
}

import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { knownKeys } from '@dstack-cloud/app';
import { isRemote, type NamedAddress, plainHttpWarnings, publicText } from '@dstack-cloud/policy';
import { KMS } from '@dstack-cloud/prpc';
import { KmsError } from '../errors.ts';
import { parseSize } from './duration.ts';
import type { FileConfig, KmsConfig } from './kms-config.ts';
import { nearestKey } from './nearest-key.ts';
import { ADDRESS_KEYS, SECRET_KEYS } from './print-config.ts';
import { configSchema, MAX_WORKERS, parseTable, type TableIssue } from './schema.ts';

type Environment = Readonly<Record<string, string | undefined>>;
type RawTable = Record<string, unknown>;

const MIN_SHARE_OF_ADDRESS = 64;
const LOG_LEVELS: readonly string[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/**
 * Checks a merged configuration and applies the environment.
 * @throws KmsError `config-invalid` naming each key, its value and what would do
 */
export function checkConfig(raw: RawTable, given: Environment): KmsConfig {
  // Compose files pass variables on that nobody set: empty is not set.
  const environment = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''));
  const merged = withEnvironment(raw, environment);
  const parsed = parseTable(merged);
  if ('issues' in parsed) throw invalid(parsed.issues.map((issue) => describeIssue(issue, merged)));
  const warnings: string[] = [];
  const config = withOnboardToken(applyQuoteEnabled(parsed.config, warnings));
  const policy = policyOf(config.core.auth_api);
  const problems = [
    ...checkPolicy(config, policy),
    ...checkPaths(config),
    ...checkSafety(config),
    ...checkLimits(config),
  ];
  if (problems.length > 0) throw invalid(problems);
  if (!config.core.image.verify) {
    warnings.push('core.image.verify is false: os_image_hash is what the workload says of itself');
  }
  warnings.push(...policyWarnings(config, policy));
  const { tls } = config.rpc;
  return {
    ...config,
    rpc: {
      ...config.rpc,
      tls: {
        ...tls,
        max_connections_per_address: tls.max_connections_per_address ?? shareOfAddress(tls.max_connections),
      },
    },
    policy,
    warnings,
    workers: config.rpc.workers ?? config.default.workers ?? Math.min(availableParallelism(), MAX_WORKERS),
    logLevel: logLevel(environment, warnings),
    agentAddress: environment['DSTACK_AGENT_ADDRESS'],
  };
}

/** Connections that one address may have of all: a quarter, and enough for guests behind one address of a small network. */
function shareOfAddress(max: number): number {
  return Math.max(MIN_SHARE_OF_ADDRESS, Math.ceil(max / 4));
}

/** Container environment of the documented deployment (section 7.2, last paragraph). */
function withEnvironment(raw: RawTable, environment: Environment): RawTable {
  const result = structuredClone(raw);
  const { KMS_HTTPS_PORT, ETH_RPC_URL, KMS_CONTRACT_ADDR, ETH_CHAIN_ID, PCCS_URL } = environment;
  if (KMS_HTTPS_PORT !== undefined) {
    set(result, ['rpc', 'port'], Number(KMS_HTTPS_PORT));
    set(result, ['core', 'onboard', 'port'], Number(KMS_HTTPS_PORT));
  }
  setDefault(result, ['core', 'pccs_url'], PCCS_URL);
  const { onboard } = (result['core'] ?? {}) as { onboard?: { auth_token?: unknown } };
  if ((onboard?.auth_token ?? '') === '') {
    setDefault(result, ['core', 'onboard', 'token'], environment['DSTACK_KMS_ONBOARD_TOKEN']);
  }
  const adminToken = environment['DSTACK_KMS_ADMIN_TOKEN'] ?? environment['ADMIN_API_TOKEN'];
  setDefault(result, ['core', 'admin', 'auth_token'], adminToken);
  if (ETH_RPC_URL !== undefined && KMS_CONTRACT_ADDR !== undefined) {
    setDefault(
      result,
      ['core', 'auth_api', 'chain', 'rpc_urls'],
      ETH_RPC_URL.split(',')
        .map((url) => url.trim())
        .filter((url) => url !== ''),
    );
    setDefault(result, ['core', 'auth_api', 'chain', 'kms_contract'], KMS_CONTRACT_ADDR);
    setDefault(result, ['core', 'auth_api', 'chain', 'chain_id'], ETH_CHAIN_ID && Number(ETH_CHAIN_ID));
  }
  return result;
}

function set(table: RawTable, path: readonly string[], value: unknown): void {
  let current = table;
  for (const name of path.slice(0, -1)) {
    if (typeof current[name] !== 'object' || current[name] === null) current[name] = {};
    current = current[name] as RawTable;
  }
  current[path.at(-1)!] = value;
}

function setDefault(table: RawTable, path: readonly string[], value: unknown): void {
  if (value === undefined || value === '') return;
  let current: unknown = table;
  for (const name of path) current = (current as RawTable | undefined)?.[name];
  if (current === undefined || current === '') set(table, path, value);
}

function policyOf(auth: KmsConfig['core']['auth_api']): KmsConfig['policy'] {
  if (auth.type !== undefined) return auth.type;
  if (auth.webhook.url === undefined && auth.chain.rpc_urls.length > 0) return 'chain';
  return 'webhook';
}

function checkPolicy({ core }: FileConfig, policy: KmsConfig['policy']): string[] {
  const { chain, allow_list, dev } = core.auth_api;
  // Whoever sets this relies on it.
  if (policy !== 'chain' && chain.require_timelock !== undefined) {
    return [
      `core.auth_api.chain.require_timelock is set, and core.auth_api.type is "${policy}", which demands no delay: set it where the chain is read (ETH_REQUIRE_TIMELOCK of an auth API), or take it out`,
    ];
  }
  if (policy === 'chain' && (chain.rpc_urls.length === 0 || chain.kms_contract === undefined)) {
    return [
      'core.auth_api.chain: rpc_urls and kms_contract are needed (or ETH_RPC_URL and KMS_CONTRACT_ADDR)',
    ];
  }
  if (policy === 'allow-list' && allow_list.file === undefined) {
    return ['core.auth_api.allow_list.file: the path of the allow-list is needed'];
  }
  if (policy === 'dev' && !dev.dangerously_allow_everything) {
    return [
      'core.auth_api.type is "dev", which gives keys to everybody: set core.auth_api.dev.dangerously_allow_everything = true if that is meant',
    ];
  }
  return [];
}

/** Of the addresses that somebody configured; without any, the auth API is the container beside. */
function policyWarnings({ core }: FileConfig, policy: KmsConfig['policy']): string[] {
  const { webhook, chain } = core.auth_api;
  const { rpc_urls: rpcUrls, light_client_url: lightClient } = chain;
  if (policy === 'webhook') {
    return plainHttpWarnings([['core.auth_api.webhook.url', webhook.url ?? '']]);
  }
  if (policy !== 'chain') return [];
  const remote = lightClient !== undefined && isRemote(new URL(lightClient));
  return [
    ...plainHttpWarnings([
      ...rpcUrls.map((url, index): NamedAddress => [`core.auth_api.chain.rpc_urls[${index}]`, url]),
      ['core.auth_api.chain.light_client_url', lightClient ?? ''],
    ]),
    ...(remote
      ? [
          'core.auth_api.chain.light_client_url is on another machine: whoever runs it, or sits on the way, chooses the blocks that decisions are read at',
        ]
      : []),
  ];
}

/** The RPC key and certificate are renewed in the key directory, so they cannot lie elsewhere. */
function checkPaths({ rpc, core }: FileConfig): string[] {
  const expected = [
    ['rpc.tls.key', rpc.tls.key, 'rpc.key'],
    ['rpc.tls.certs', rpc.tls.certs, 'rpc.crt'],
    ['rpc.tls.mutual.ca_certs', rpc.tls.mutual.ca_certs, 'tmp-ca.crt'],
  ] as const;
  return expected
    .filter(([, path, name]) => path !== undefined && resolve(path) !== resolve(join(core.cert_dir, name)))
    .map(([key, path, name]) => `${key}: "${path}" must be ${join(core.cert_dir, name)} (core.cert_dir)`);
}

function checkSafety({ core }: FileConfig): string[] {
  const { admin, attestation, onboard } = core;
  const problems: string[] = [];
  if (onboard.auth_token !== '' && onboard.token !== onboard.auth_token) {
    problems.push('core.onboard.token and core.onboard.auth_token are two names of one token, and differ');
  }
  if (
    Object.values(attestation.root_ca).some((file) => file !== undefined) &&
    !attestation.insecure_allow_external_trust_anchors
  ) {
    problems.push(
      'external attestation trust anchors are configured but insecure_allow_external_trust_anchors is false',
    );
  }
  if (
    attestation.insecure_skip_gcp_firmware_endorsement &&
    !attestation.insecure_allow_external_trust_anchors
  ) {
    problems.push(
      'insecure_skip_gcp_firmware_endorsement is for simulated machines: it needs insecure_allow_external_trust_anchors',
    );
  }
  if (admin.enabled && admin.auth_token === '' && admin.htpasswd_file === '' && !admin.insecure_no_auth) {
    problems.push(
      'admin API is enabled but neither auth_token nor htpasswd_file is configured; set one, or insecure_no_auth = true',
    );
  }
  // A name could be anywhere.
  if (admin.insecure_no_auth && !/^(127(\.\d+){3}|::1|localhost)$/.test(admin.address)) {
    problems.push(`core.admin.address: "${admin.address}" with insecure_no_auth must be a loopback address`);
  }
  return problems;
}

/** A limit under a wrong name would limit nothing. */
function checkLimits({ rpc }: FileConfig): string[] {
  const methods = KMS.methods.map(({ name }) => name);
  return Object.entries(rpc.limits).flatMap(([method, size]) => {
    if (parseSize(size) === undefined) {
      return [`rpc.limits.${method}: "${size}" is no size such as "1MiB"`];
    }
    if (methods.includes(method)) return [];
    const near = nearestKey(method, methods);
    return [`rpc.limits.${method}: no such method${near === undefined ? '' : `; did you mean "${near}"?`}`];
  });
}

/** Newer releases of the original call it `auth_token`. */
function withOnboardToken(config: FileConfig): FileConfig {
  const { onboard } = config.core;
  return {
    ...config,
    core: { ...config.core, onboard: { ...onboard, token: onboard.token || onboard.auth_token } },
  };
}

/** `quote_enabled = false` of v0.6; callers are verified all the same (section 7.2). */
function applyQuoteEnabled(config: FileConfig, warnings: string[]): FileConfig {
  if (config.core.onboard.quote_enabled) return config;
  warnings.push(
    'core.onboard.quote_enabled is false: taken as attest_rpc_cert and enforce_self_authorization false',
  );
  return { ...config, core: { ...config.core, attest_rpc_cert: false, enforce_self_authorization: false } };
}

/** From `LOG_LEVEL`, else `RUST_LOG`, else `info`; what is no level is warned of and not used. */
export function logLevel(environment: Environment, warnings: string[] = []): string {
  const wanted = environment['LOG_LEVEL']?.toLowerCase();
  if (wanted !== undefined && LOG_LEVELS.includes(wanted)) return wanted;
  if (wanted !== undefined)
    warnings.push(`LOG_LEVEL is "${publicText(wanted, 64)}"; it can be ${LOG_LEVELS.join(', ')}`);
  return rustLogLevel(environment['RUST_LOG']) ?? 'info';
}

function rustLogLevel(filter: string | undefined): string | undefined {
  const level = filter?.split(',')[0]?.split('=').at(-1)?.toLowerCase();
  return level !== undefined && LOG_LEVELS.includes(level) ? level : undefined;
}

function describeIssue({ path, message, unknownKeys }: TableIssue, raw: RawTable): string {
  if (unknownKeys !== undefined) {
    return unknownKeys
      .map((key) => {
        const near = nearestKey(key, knownKeys(configSchema, path));
        return `${[...path, key].join('.')}: unknown key${near === undefined ? '' : `; did you mean "${near}"?`}`;
      })
      .join('\n  ');
  }
  const key = path.join('.');
  if (path.some((name) => SECRET_KEYS.has(name) || ADDRESS_KEYS.has(name))) {
    return `${key}: the value is not accepted; ${message}`;
  }
  let value: unknown = raw;
  for (const name of path) value = (value as RawTable | undefined)?.[name];
  return `${key}: ${shown(value)} is not accepted; ${message}`;
}

/** What is in a table or list may be a token; a text may be an address with its key, given for the wrong key. */
function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null && !(value instanceof Date)) return 'a table';
  return JSON.stringify(typeof value === 'string' ? publicText(value) : value);
}

function invalid(problems: readonly string[]): KmsError {
  return new KmsError('config-invalid', `The configuration cannot be used:\n  ${problems.join('\n  ')}`);
}

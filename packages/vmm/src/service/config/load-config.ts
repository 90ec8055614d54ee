import { homedir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { AppError, knownKeys, readFileBounded } from '@dstack-cloud/app';
import { nearestName } from '@dstack-cloud/encoding';
import { isLoopbackAddress } from '@dstack-cloud/prpc';
import { parse } from 'smol-toml';
import type { z } from 'zod';
import { VmmError } from '../../errors.ts';
import { withoutOriginalKeys } from './original-keys.ts';
import { checkTable, configSchema } from './schema.ts';
import type { VmmConfig } from './vmm-config.ts';

const MAX_CONFIG_BYTES = 1 << 20;

/** The first that is there is read when no file is named. */
const STANDARD_FILES = ['vmm.toml', '/etc/dstack/vmm.toml'];

/** Keys whose values are secrets, or may hold one. */
const SECRET_KEYS = ['tokens'];

interface LoadOptions {
  /** Told of keys that have no effect. */
  readonly warn?: ((text: string) => void) | undefined;
  readonly standardFiles?: readonly string[];
}

/**
 * The configuration of the file, or of the first standard one; relative paths are relative to its folder.
 *
 * @throws VmmError `bad_config`
 */
export async function loadConfig(
  file: string | undefined,
  { warn, standardFiles = STANDARD_FILES }: LoadOptions = {},
): Promise<VmmConfig> {
  for (const path of file === undefined ? standardFiles : [file]) {
    const text = await readText(path, file === undefined);
    if (text !== undefined) return withPaths(parseConfig(text, path, warn), dirname(resolve(path)));
  }
  return withPaths(parseConfig('', 'vmm.toml'), process.cwd());
}

async function readText(path: string, mayBeAbsent: boolean): Promise<string | undefined> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFileBounded(path, MAX_CONFIG_BYTES));
  } catch (cause) {
    if (mayBeAbsent && cause instanceof AppError && cause.code === 'file-missing') return undefined;
    throw new VmmError('bad_config', `Configuration ${path} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/**
 * Checks the text of a configuration; `name` is for messages.
 *
 * @param warn told of keys of the original that have no effect
 * @throws VmmError `bad_config`
 */
export function parseConfig(
  text: string,
  name: string,
  warn: (text: string) => void = () => undefined,
): VmmConfig {
  let table: unknown;
  try {
    table = parse(text);
  } catch (cause) {
    // What follows the first line shows the line that is wrong, which may hold a token.
    throw new VmmError('bad_config', `${name}: ${(cause as Error).message.split('\n')[0]}`);
  }
  const original = withoutOriginalKeys(table);
  const result = checkTable(original.table);
  const problems = [
    ...original.problems,
    ...('issues' in result ? result.issues.map(issueText) : conflicts(result.config)),
  ];
  if ('issues' in result || problems.length > 0) throw bad(name, problems);
  for (const warning of original.warnings) warn(`${name}: ${warning}`);
  return result.config;
}

/** What single keys do not show. */
function conflicts({ address, auth, tls, cvm }: VmmConfig): string[] {
  const hasCredential = auth.tokens.length > 0 || auth.htpasswd_file !== '';
  const hasTls = tls.key !== '' && tls.certs !== '';
  const onNetwork = !address.startsWith('unix:');
  return [
    ...(auth.enabled && !hasCredential
      ? ['auth.enabled: needs auth.tokens or auth.htpasswd_file; nobody could get in']
      : []),
    ...(!auth.enabled && hasCredential
      ? ['auth.enabled: is false though credentials are configured; set it to true or remove them']
      : []),
    ...(onNetwork && !auth.enabled
      ? [
          `address: ${address} is reachable by others; set auth.enabled = true and auth.tokens, or use unix:PATH`,
        ]
      : []),
    ...((tls.key === '') !== (tls.certs === '') ? ['tls: key and certs belong together'] : []),
    ...(onNetwork && !hasTls && !isLoopbackAddress(address)
      ? [
          `address: credentials would cross the network readable; set tls.key and tls.certs, or listen on 127.0.0.1`,
        ]
      : []),
    ...(!onNetwork && hasTls ? ['tls: a Unix socket has no TLS; remove it or give an address'] : []),
    ...(cvm.networking.mode === 'bridge' && cvm.networking.bridge === ''
      ? ['cvm.networking.bridge: mode bridge needs the name of a bridge']
      : []),
    ...(cvm.platform === 'simulated-tdx' && cvm.simulated_tee_seed === ''
      ? ['cvm.simulated_tee_seed: platform simulated-tdx needs the file of its seed']
      : []),
  ];
}

function bad(name: string, problems: readonly string[]): VmmError {
  return new VmmError('bad_config', `${name} cannot be used:\n  ${problems.join('\n  ')}`);
}

function issueText(issue: z.core.$ZodIssue): string {
  const key = issue.path.join('.');
  if (issue.code !== 'unrecognized_keys')
    return `${key}: ${issue.path.some((name) => SECRET_KEYS.includes(String(name))) ? 'is not accepted' : issue.message}`;
  return issue.keys
    .map((unknown) => {
      const nearest = nearestName(unknown, knownKeys(configSchema, issue.path));
      const hint = nearest === undefined ? '' : `; did you mean "${nearest}"?`;
      return `${[...issue.path, unknown].join('.')}: unknown key${hint}`;
    })
    .join('\n  ');
}

function withPaths(config: VmmConfig, folder: string): VmmConfig {
  const at = (path: string): string =>
    path === '' ? '' : resolve(folder, path.replace(/^~(?=\/|$)/, homedir()));
  const { address, image, image_path, run_path, tls, auth, cvm } = config;
  return {
    ...config,
    address: address.startsWith('unix:') ? `unix:${at(address.slice(5))}` : address,
    image: { ...image, registry_auth_file: at(image.registry_auth_file) },
    image_path: at(image_path),
    run_path: at(run_path),
    tls: { key: at(tls.key), certs: at(tls.certs) },
    auth: { ...auth, htpasswd_file: at(auth.htpasswd_file) },
    cvm: { ...cvm, simulated_tee_seed: at(cvm.simulated_tee_seed) },
  };
}

/** The configuration for people to read, without secrets: user names, paths and queries of URLs may be API keys. */
export function shownConfig(config: VmmConfig): object {
  const { auth, cvm, kms_url } = config;
  return {
    ...config,
    kms_url: shownUrl(kms_url),
    auth: { ...auth, tokens: auth.tokens.map(() => '[secret]') },
    cvm: {
      ...cvm,
      kms_urls: cvm.kms_urls.map(shownUrl),
      gateway_urls: cvm.gateway_urls.map(shownUrl),
      pccs_url: shownUrl(cvm.pccs_url),
      docker_registry: shownUrl(cvm.docker_registry),
    },
  };
}

function shownUrl(text: string): string {
  return /^https?:/i.test(text) && URL.canParse(text) ? new URL(text).origin : text;
}

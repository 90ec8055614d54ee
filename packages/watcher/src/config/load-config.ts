import { homedir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { AppError, knownKeys, readFileBounded } from '@dstack-cloud/app';
import { nearestName } from '@dstack-cloud/encoding';
import { isPlainRemote, publicUrl } from '@dstack-cloud/policy/following';
import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { WatcherError } from '../errors.ts';
import { checkTable, configSchema, type WatchConfig } from './schema.ts';

const MAX_CONFIG_BYTES = 1 << 20;

/** Reads the configuration; relative paths are relative to its folder. @throws WatcherError `bad-configuration` */
export async function loadConfig(file: string): Promise<WatchConfig> {
  const text = await readConfig(file);
  return withPaths(parseConfig(text, file), dirname(resolve(file)));
}

async function readConfig(file: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(file, MAX_CONFIG_BYTES, { label: 'Configuration' });
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    throw new WatcherError('bad-configuration', error.message, {
      hint:
        error.code === 'file-missing'
          ? 'Name the file of the watcher; docs/governance.md shows one'
          : undefined,
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw bad(file, ['it is no UTF-8']);
  }
}

/** Checks the text of a configuration; `name` is for messages. @throws WatcherError `bad-configuration` */
export function parseConfig(text: string, name: string): WatchConfig {
  let table: unknown;
  try {
    table = parse(text);
  } catch (cause) {
    // The lines after the first show the text, in which a URL may hold a key.
    const [message] = (cause as Error).message.split('\n');
    const where = cause instanceof TomlError ? `line ${cause.line}, column ${cause.column}: ` : '';
    throw bad(name, [`${where}${message}`]);
  }
  const result = checkTable(table);
  const problems = 'issues' in result ? result.issues.map(issueText) : conflicts(result.config);
  if ('issues' in result || problems.length > 0) throw bad(name, problems);
  return result.config;
}

/** What single keys do not show. */
function conflicts({
  rpc_urls,
  quorum,
  kms_contract,
  webhook,
  safe_service,
  metrics,
}: WatchConfig): string[] {
  return [
    ...(rpc_urls.length === 0 ? ['rpc_urls: needs at least one address'] : []),
    ...(kms_contract === '' ? ['kms_contract: needs the address of the DstackKms proxy'] : []),
    ...(quorum !== undefined && quorum > rpc_urls.length
      ? [`quorum: is ${quorum}, and there are ${rpc_urls.length} rpc_urls`]
      : []),
    ...((webhook.url === '') !== (webhook.secret_file === '')
      ? ['webhook: url and secret_file belong together: messages are signed']
      : []),
    ...plainRemote('webhook.url', webhook.url),
    ...plainRemote('safe_service.url', safe_service.url),
    ...(safe_service.url === '' && safe_service.api_key_file !== ''
      ? ['safe_service.api_key_file: belongs to a url, which is not there']
      : []),
    ...(metrics.enabled && !/^[0-9A-Fa-f.:]+$|^localhost$/.test(metrics.address)
      ? ['metrics.address: must be an IP address']
      : []),
  ];
}

function plainRemote(key: string, url: string): string[] {
  if (url === '' || !isPlainRemote(new URL(url))) return [];
  return [`${key}: ${publicUrl(new URL(url))} is plain HTTP; use https`];
}

function bad(name: string, problems: readonly string[]): WatcherError {
  return new WatcherError('bad-configuration', `${name} cannot be used:\n  ${problems.join('\n  ')}`);
}

function issueText(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'unrecognized_keys') return `${issue.path.join('.')}: ${issue.message}`;
  return issue.keys
    .map((unknown) => {
      const nearest = nearestName(unknown, knownKeys(configSchema, issue.path));
      const hint = nearest === undefined ? '' : `; did you mean "${nearest}"?`;
      return `${[...issue.path, unknown].join('.')}: unknown key${hint}`;
    })
    .join('\n  ');
}

function withPaths(config: WatchConfig, folder: string): WatchConfig {
  const at = (path: string): string =>
    path === '' ? '' : resolve(folder, path.replace(/^~(?=\/|$)/, homedir()));
  const { webhook, safe_service, state_path } = config;
  return {
    ...config,
    state_path: at(state_path),
    webhook: { ...webhook, secret_file: at(webhook.secret_file) },
    safe_service: { ...safe_service, api_key_file: at(safe_service.api_key_file) },
  };
}

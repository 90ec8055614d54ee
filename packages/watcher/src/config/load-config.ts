import { homedir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { knownKeys, readFileBounded } from '@dstack-cloud/app';
import { nearestName } from '@dstack-cloud/encoding';
import { isPlainRemote, publicUrl } from '@dstack-cloud/policy/following';
import { parse } from 'smol-toml';
import type { z } from 'zod';
import { WatcherError } from '../errors.ts';
import { checkTable, configSchema, type WatchConfig } from './schema.ts';

const MAX_CONFIG_BYTES = 1 << 20;

/** Reads the configuration; relative paths are relative to its folder. @throws WatcherError `bad-configuration` */
export async function loadConfig(file: string): Promise<WatchConfig> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(await readFileBounded(file, MAX_CONFIG_BYTES));
  } catch (cause) {
    throw new WatcherError('bad-configuration', `Configuration ${file} cannot be read`, { cause });
  }
  return withPaths(parseConfig(text, file), dirname(resolve(file)));
}

/** Checks the text of a configuration; `name` is for messages. @throws WatcherError `bad-configuration` */
export function parseConfig(text: string, name: string): WatchConfig {
  let table: unknown;
  try {
    table = parse(text);
  } catch (cause) {
    // The lines after the first show the text, in which a URL may hold a key.
    throw bad(name, [(cause as Error).message.split('\n')[0]!]);
  }
  const result = checkTable(table);
  const problems = 'issues' in result ? result.issues.map(issueText) : conflicts(result.config);
  if ('issues' in result || problems.length > 0) throw bad(name, problems);
  return result.config;
}

/** What single keys do not show. */
function conflicts({ rpc_urls, quorum, kms_contract, webhook, metrics }: WatchConfig): string[] {
  return [
    ...(rpc_urls.length === 0 ? ['rpc_urls: needs at least one address'] : []),
    ...(kms_contract === '' ? ['kms_contract: needs the address of the DstackKms proxy'] : []),
    ...(quorum !== undefined && quorum > rpc_urls.length
      ? [`quorum: is ${quorum}, and there are ${rpc_urls.length} rpc_urls`]
      : []),
    ...((webhook.url === '') !== (webhook.secret_file === '')
      ? ['webhook: url and secret_file belong together: messages are signed']
      : []),
    ...(webhook.url !== '' && isPlainRemote(new URL(webhook.url))
      ? [`webhook.url: ${publicUrl(new URL(webhook.url))} is plain HTTP; use https`]
      : []),
    ...(metrics.enabled && !/^[0-9A-Fa-f.:]+$|^localhost$/.test(metrics.address)
      ? ['metrics.address: must be an IP address']
      : []),
  ];
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
  const { webhook, state_path } = config;
  return {
    ...config,
    state_path: at(state_path),
    webhook: { ...webhook, secret_file: at(webhook.secret_file) },
  };
}

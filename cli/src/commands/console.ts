import { resolve } from 'node:path';
import { type Health, reachable, startConsole } from '@dstack-cloud/console';
import { configSchema, loadConfig, type WatchConfig } from '@dstack-cloud/watcher';
import { type GlobalConfig, loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { loadPlatform } from '../platforms/load-platform.ts';

const DEFAULT_PORT = 8_190;

/** `console [FILE]`: serves the page until Ctrl-C. */
export async function run(
  context: Context,
  [file]: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const global = await loadGlobalConfig(context);
  const config = file === undefined ? fromGlobal(global) : await loadConfig(resolve(context.directory, file));
  const running = await startConsole({
    chain: config,
    health: () => health(context, global),
    port: portOf(flags['port']),
  });
  try {
    context.result({ url: running.url });
    context.print(`Console at ${running.url} (Ctrl-C ends it)`);
    await new Promise<void>((done) => {
      if (context.signal.aborted) done();
      context.signal.addEventListener('abort', () => done(), { once: true });
    });
  } finally {
    await running.stop();
  }
  return EXIT.ok;
}

function fromGlobal({ chain }: GlobalConfig): WatchConfig {
  if (chain === undefined)
    throw new CliError('usage', 'No chain is configured to show', {
      hint: 'Set chain in the global configuration, or name the file of a watcher',
      exitCode: EXIT.usage,
    });
  return configSchema.parse({
    rpc_urls: [chain.rpc_url],
    kms_contract: chain.kms_contract,
    ...(chain.chain_id === undefined ? {} : { chain_id: chain.chain_id }),
  });
}

function portOf(given: unknown): number {
  if (given === undefined) return DEFAULT_PORT;
  const port = Number(given);
  if (/^\d{1,5}$/.test(String(given)) && port <= 65_535) return port;
  throw new CliError('usage', '--port must be a number up to 65535', {
    found: String(given),
    exitCode: EXIT.usage,
  });
}

/** The key services of the configuration, and the machines of this host. */
async function health(context: Context, config: GlobalConfig): Promise<Health[]> {
  const services = config.services.kms_urls.map(async (url): Promise<Health> => {
    const { ok, text } = await reachable(`${url.replace(/\/+$/, '')}/health`);
    return { kind: 'kms', name: new URL(url).host, url: new URL(url).origin, ok, text };
  });
  const machines = await loadPlatform(config.platform ?? 'local')
    .then((platform) => platform.list(context, config))
    .then((list) =>
      list.map(
        ({ name, status, urls }): Health => ({
          kind: 'app',
          name,
          url: urls['app'] ?? '',
          ok: /^running$/i.test(status),
          text: status,
        }),
      ),
    )
    .catch((error: Error): Health[] => [
      { kind: 'app', name: 'machines', url: '', ok: false, text: `cannot be listed: ${error.message}` },
    ]);
  return [...(await Promise.all(services)), ...machines];
}

#!/usr/bin/env node
/** dstack-ct-monitor: alarms when Certificate Transparency has a certificate for a gateway's domain with a key of nobody's TEE. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { printableMessage } from '@dstack-cloud/encoding';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { type CtSource, logSource } from './ct/log-source.ts';
import { type Look, lookOnce, type MonitorOptions, replaceFile } from './ct/monitor.ts';
import { searchSource } from './ct/search-source.ts';

const USAGE = `dstack-ct-monitor: watches Certificate Transparency for certificates of a gateway's domain

Usage:
  dstack-ct-monitor --gateway DOMAIN[:PORT] --verifier-url URL --expect-app-id ID --state FILE [--search URL] [--log URL=KEY.pem]

Options:
      --gateway DOMAIN[:PORT]    base domain of the gateway
      --gateway-url URL          where its page is, if not https://gateway.DOMAIN[:PORT]
      --verifier-url URL         a dstack-verifier, which verifies the quotes of the gateway's keys
      --expect-app-id ID         the gateway's app id, 40 hex digits
      --expect-compose-hash HASH may be repeated; without any, every version of the application counts
      --search URL               an interface like that of crt.sh; may be repeated
      --log URL=KEY.pem          a log of RFC 6962 with its public key; may be repeated
      --from-start               read logs from their first entry, not from now on
      --state FILE               keeps what was seen
      --webhook-url URL          gets each alarm as JSON
      --metrics-file FILE        metrics, for a collector of text files
      --interval SECONDS         between two looks (60)
      --once                     look once: exit code 0 for nothing found, 3 for an alarm, 4 when it cannot be told
  -h, --help                     print this

Example:
  dstack-ct-monitor --gateway apps.example.com --verifier-url http://127.0.0.1:8080 --expect-app-id 1f…a0 --search https://crt.sh --state ct.json
`;

const GATEWAY = /^(?<domain>(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63})(?::(?<port>\d{1,5}))?$/i;

class UsageError extends Error {}

type Settings = MonitorOptions & {
  readonly once: boolean;
  readonly intervalMs: number;
  readonly metricsFile: string;
};

async function main(): Promise<void> {
  const settings = settingsOf(process.argv.slice(2));
  if (settings === undefined) return void process.stdout.write(USAGE);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  for (;;) {
    const look = await lookOnce(settings);
    if (settings.metricsFile !== '') await replaceFile(settings.metricsFile, metricsOf(look, settings));
    if (settings.once) {
      process.exitCode = look.unknown > 0 ? 3 : look.problems.length > 0 ? 4 : 0;
      return;
    }
    await sleep(settings.intervalMs, undefined, { signal: stop.signal }).catch(() => undefined);
    if (stop.signal.aborted) return;
  }
}

function settingsOf(input: string[]): Settings | undefined {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: input,
    options: {
      gateway: text,
      'gateway-url': text,
      'verifier-url': text,
      'expect-app-id': text,
      'expect-compose-hash': { type: 'string', multiple: true },
      search: { type: 'string', multiple: true },
      log: { type: 'string', multiple: true },
      'from-start': { type: 'boolean' },
      state: text,
      'webhook-url': text,
      'metrics-file': text,
      interval: text,
      once: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return undefined;
  const needed = (name: 'gateway' | 'verifier-url' | 'expect-app-id' | 'state'): string => {
    const value = values[name];
    if (value === undefined) throw new UsageError(`--${name} is needed`);
    return value;
  };
  const { domain, port } = GATEWAY.exec(needed('gateway'))?.groups ?? {};
  if (domain === undefined) throw new UsageError('--gateway is no domain');
  const base = domain.toLowerCase();
  const sources: CtSource[] = [
    ...(values.search ?? []).map((url) => searchSource(safeUrl('search', url))),
    ...(values.log ?? []).map((one) => {
      const at = one.lastIndexOf('=');
      if (at < 0) throw new UsageError('--log is URL=KEY.pem');
      return logSource(
        safeUrl('log', one.slice(0, at)),
        readFileSync(one.slice(at + 1), 'utf8'),
        values['from-start'] === true,
      );
    }),
  ];
  if (sources.length === 0) throw new UsageError('--search or --log is needed');
  const seconds = Number(values.interval ?? '60');
  if (!(seconds >= 1 && seconds <= 86_400))
    throw new UsageError('--interval is a number of seconds from 1 to 86400');
  return {
    domain: base,
    gatewayUrl: safeUrl(
      'gateway-url',
      values['gateway-url'] ?? `https://gateway.${base}${port ? `:${port}` : ''}`,
    ),
    verifierUrl: safeUrl('verifier-url', needed('verifier-url')),
    appId: hexOf('expect-app-id', needed('expect-app-id'), 40),
    composeHashes: (values['expect-compose-hash'] ?? []).map((hash) =>
      hexOf('expect-compose-hash', hash, 64),
    ),
    sources,
    statePath: needed('state'),
    webhookUrl: values['webhook-url'] === undefined ? '' : safeUrl('webhook-url', values['webhook-url']),
    metricsFile: values['metrics-file'] ?? '',
    intervalMs: seconds * 1000,
    once: values.once === true,
    now: () => Math.floor(Date.now() / 1000),
    log: (level, fields, message) => {
      const line = JSON.stringify({ level, time: new Date().toISOString(), ...fields, msg: message });
      process.stdout.write(`${printableMessage(line)}\n`);
    },
  };
}

/** What is believed of a source comes by TLS, or from this machine. */
function safeUrl(name: string, url: string): string {
  const isSafe =
    URL.canParse(url) && /^(https:\/\/|http:\/\/(127\.0\.0\.1|localhost|\[::1\])([:/]|$))/.test(url);
  if (!isSafe) throw new UsageError(`--${name} must begin with https:// (or http:// of this machine)`);
  return url.replace(/\/$/, '');
}

function hexOf(name: string, text: string, digits: number): string {
  const bare = text.toLowerCase().replace(/^0x/, '');
  if (bare.length !== digits || !/^[0-9a-f]+$/.test(bare))
    throw new UsageError(`--${name} is not ${digits} hex digits`);
  return bare;
}

function metricsOf({ unknown, knownKeys, problems }: Look, { now }: Settings): string {
  return `# HELP dstack_ct_monitor_unknown_certificates Certificates in force with a key that no quote knows.
# TYPE dstack_ct_monitor_unknown_certificates gauge
dstack_ct_monitor_unknown_certificates ${unknown}
# HELP dstack_ct_monitor_known_keys Keys that a verified quote knows.
# TYPE dstack_ct_monitor_known_keys gauge
dstack_ct_monitor_known_keys ${knownKeys}
# HELP dstack_ct_monitor_problems What the last look could not find out.
# TYPE dstack_ct_monitor_problems gauge
dstack_ct_monitor_problems ${problems.length}
# HELP dstack_ct_monitor_last_look_seconds When the last look was, Unix time.
# TYPE dstack_ct_monitor_last_look_seconds gauge
dstack_ct_monitor_last_look_seconds ${now()}
`;
}

surviveClosedOutput();
main().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`dstack-ct-monitor: ${printableMessage(message)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
});

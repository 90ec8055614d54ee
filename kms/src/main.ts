#!/usr/bin/env node
import { parseArgs } from 'node:util';
import type { KmsConfig } from './config/kms-config.ts';
import { loadConfig } from './config/load-config.ts';
import { printConfig } from './config/print-config.ts';
import { errorChain } from './errors.ts';
import { startKms } from './start-kms.ts';
import { createLog } from './telemetry/log.ts';
import { VERSION } from './version.ts';

const USAGE = `Usage: dstack-kms [options] [command]

Commands:
  (none)          run the KMS
  check-config    check the configuration
  inspect         print what this KMS is by its evidence, and whether the policy allows it
  backup          split the root keys: --threshold N --recipient X25519-HEX ... --out DIR
  open-share      for a custodian: --share FILE --identity FILE; prints the opened share
  restore         make the key directory anew: --share OPENED-FILE ... --domain NAME

Options:
  -c, --config FILE   configuration, TOML if it ends in .toml, else JSON
  --print-config      print the effective configuration without secrets and end
  -V, --version       print the version
  -h, --help          print this help
`;

async function main(): Promise<string> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      config: { type: 'string', short: 'c' },
      'print-config': { type: 'boolean' },
      version: { type: 'boolean', short: 'V' },
      help: { type: 'boolean', short: 'h' },
      threshold: { type: 'string', default: '0' },
      recipient: { type: 'string', multiple: true, default: [] },
      out: { type: 'string', default: 'kms-backup' },
      share: { type: 'string', multiple: true, default: [] },
      identity: { type: 'string', default: '' },
      domain: { type: 'string', default: '' },
    },
  });
  if (values.help) return USAGE;
  if (values.version) return `dstack-kms ${VERSION}\n`;
  const [command] = positionals;
  const commands = await import('./commands/backup-commands.ts');
  if (command === 'open-share') return commands.openShareCommand(values.share[0] ?? '', values.identity);
  const config = loadConfig(values.config, process.env);
  if (values['print-config']) return `${printConfig(config)}\n`;
  const quiet = createLog('error');
  switch (command) {
    case undefined:
      return serve(config);
    case 'check-config':
      for (const warning of config.warnings) process.stderr.write(`warning: ${warning}\n`);
      return 'The configuration is valid\n';
    case 'inspect':
      return (await import('./commands/inspect-command.ts')).inspectCommand(config, quiet);
    case 'backup': {
      const { recipient: recipients, out } = values;
      const threshold = Number(values.threshold);
      return commands.backupCommand(config, { threshold, recipients, out, now: Date.now() / 1000 });
    }
    case 'restore':
      return commands.restoreCommand(config, { shares: values.share, domain: values.domain, log: quiet });
    default:
      throw new Error(`Unknown command "${command}"\n\n${USAGE}`);
  }
}

async function serve(config: KmsConfig): Promise<string> {
  const log = createLog(config.logLevel);
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    stop.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    // A second signal does not wait.
    process.on(signal, () => (stop.signal.aborted ? process.exit(1) : stop.abort()));
  }
  try {
    const running = await startKms(config, { log, signal: stop.signal });
    await stopped;
    await running.close();
  } catch (error) {
    if (!stop.signal.aborted) {
      log.fatal({ error: errorChain(error) }, 'dstack-kms cannot run');
      throw error;
    }
  }
  return '';
}

main().then(
  (text) => process.stdout.write(text, () => process.exit(0)),
  (error: unknown) => process.stderr.write(`dstack-kms: ${errorChain(error)}\n`, () => process.exit(1)),
);

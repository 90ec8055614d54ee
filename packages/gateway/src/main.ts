#!/usr/bin/env node
/** dstack-gateway: TLS ingress for applications in TEEs. */
import { parseArgs } from 'node:util';
import { printableLog, printableMessage } from '@dstack-cloud/encoding';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { boundedLines } from '@dstack-cloud/prpc';
import { destination, pino } from 'pino';
import { loadConfig } from './config/load-config.ts';
import { importStateFile, runGateway } from './gateway.ts';
import { VERSION } from './version.ts';

const USAGE = `dstack-gateway: routes https://<app id>[-<port>][s|g].<base domain> to attested applications

Usage:
  dstack-gateway [--config gateway.toml]

Options:
  -c, --config FILE   the configuration (gateway.toml, then /etc/gateway/gateway.toml)
      --check         read and check the configuration, then end
      --import-state FILE  take over the registrations of a gateway of the 0.6 line, then end
      --version       print the version
  -h, --help          print this

Example:
  dstack-gateway --config /etc/gateway/gateway.toml
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      config: { type: 'string', short: 'c' },
      check: { type: 'boolean' },
      'import-state': { type: 'string' },
      version: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  if (values.version) return void process.stdout.write(`${printableMessage(`dstack-gateway ${VERSION}`)}\n`);
  const config = await loadConfig(values.config);
  if (values.check) return void process.stdout.write(`${printableMessage('The configuration is good.')}\n`);
  const file = values['import-state'];
  if (file !== undefined) {
    const { taken, known, leftOut } = await importStateFile(config, file, new AbortController().signal);
    const lines = [
      ...leftOut.map(({ id, why }) => `left out ${id}: ${why}`),
      `${taken} registrations taken over, ${known} known already, ${leftOut.length} left out`,
    ];
    for (const line of lines) process.stdout.write(`${printableMessage(line)}\n`);
    return;
  }
  const log = pino(
    { level: config.log_level, base: { service: 'dstack-gateway' }, hooks: boundedLines().hooks },
    printableLog(destination({ dest: 1, sync: true })),
  );
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  await runGateway(config, stop.signal, {
    log,
    ready: ({ proxyPort, rpcPort }) => log.info({ proxyPort, rpcPort }, 'Listening'),
  });
}

surviveClosedOutput();
main().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`dstack-gateway: ${printableMessage(message)}\n`);
  process.exitCode = 1;
});

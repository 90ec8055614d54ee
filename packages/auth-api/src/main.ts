#!/usr/bin/env node
/** dstack-auth-api: the authorisation webhook as a service of its own, configured by the environment. */
import { parseArgs } from 'node:util';
import { printableJson, printableLog, printableMessage } from '@dstack-cloud/encoding';
import { boundedLines } from '@dstack-cloud/prpc';
import { destination, pino } from 'pino';
import { createMetrics } from './metrics.ts';
import { startServer } from './server.ts';
import { settingsFrom } from './settings.ts';
import { settingsWarnings } from './settings-warnings.ts';
import { shownSettings } from './shown-settings.ts';
import { startPolicySource } from './start-policy-source.ts';

const USAGE = `dstack-auth-api: says which workloads a KMS may give keys to

Options:
  --print-config   print the settings without secrets and end
  -h, --help       print this

Environment:
  HOST, PORT                   where to listen (127.0.0.1, 8000)
  KMS_CONTRACT_ADDR            DstackKms proxy: decide on chain (or KMS_CONTRACT_ADDRESS)
  ETH_RPC_URL, ETH_RPC_URLS    JSON-RPC endpoint, or a comma list (http://localhost:8545)
  ETH_RPC_QUORUM               how many endpoints must agree (more than half)
  ETH_CHAIN_ID                 refuse endpoints of another chain (recommended)
  ETH_MAX_BLOCK_AGE            deny when the head is older, in seconds (120)
  ETH_FINALITY_CONFIRMATIONS   a permission must be this many blocks deep (0)
  ETH_FINALITY                 or: latest, safe, finalized
  ETH_HEAD_REUSE_MS            how long one head may serve further questions (0)
  ETH_READ                     call, or proof: decide by proven storage, not by answers (call)
  ETH_LIGHT_CLIENT_URL         a verifying light client that says which block is the head
  ETH_REQUIRE_TIMELOCK         allow only by contracts that make additions public this many seconds before
  ETH_KNOWN_CODE               for proofs, contract code built elsewhere: 0x<code hash>=<name>, a comma list
  AUTH_CONFIG_PATH             instead of a contract: an allow-list file
  LOG_LEVEL                    debug, info, warn, error (info)
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { help: { type: 'boolean', short: 'h' }, 'print-config': { type: 'boolean' } },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const settings = settingsFrom(process.env);
  if (values['print-config']) {
    for (const warning of settingsWarnings(settings))
      process.stderr.write(`warning: ${printableMessage(warning)}\n`);
    return void process.stdout.write(`${printableJson(JSON.stringify(shownSettings(settings), null, 2))}\n`);
  }

  const log = pino(
    { level: settings.logLevel, base: { service: 'dstack-auth-api' }, hooks: boundedLines().hooks },
    printableLog(destination({ dest: 1, sync: true })),
  );
  const { policy, lagSeconds, close } = startPolicySource(settings, log);
  const services = { policy, metrics: createMetrics(lagSeconds), log };
  const server = await startServer(services, settings.host, settings.port);
  log.info({ url: server.url, ...shownSettings(settings) }, 'Listening');

  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'Stopping');
    void server.stop().then(close);
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

main().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`dstack-auth-api: ${printableMessage(message)}\n`);
  process.exitCode = 1;
});

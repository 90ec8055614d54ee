import { parseArgs } from 'node:util';
import { printableMessage } from '@dstack-cloud/encoding';
import { errorChain } from '@dstack-cloud/runtime';
import { loadGuestConfig } from './config/guest-config.ts';
import { warnIfSimulated } from './config/warn-if-simulated.ts';
import { createLogger } from './log.ts';
import { serveAgent } from './serve-agent.ts';
import { VERSION } from './version.ts';

const USAGE = `Usage: dstack-guest-agent --config FILE

Serves keys, evidence and certificates to the applications of this machine (dstack.sock, tappd.sock) and public facts
to everybody (external listener). Needs a prepared machine, or the files of a fixture.

  -c, --config FILE  guest configuration (JSON)
      --version      print the version
  -h, --help         print this text
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      config: { type: 'string', short: 'c', default: '/etc/dstack/guest.json' },
      version: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help || values.version) {
    process.stdout.write(values.help ? USAGE : `dstack-guest-agent ${VERSION}\n`);
    return;
  }
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve());
  });
  const config = loadGuestConfig(values.config);
  const log = createLogger('dstack-guest-agent');
  warnIfSimulated(config, log);
  const served = await serveAgent(config, log);
  process.stdout.write(`dstack-guest-agent ready: ${served.addresses.join(' ')}\n`);
  await stopped;
  await served.close();
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`Error: ${printableMessage(errorChain(error))}\n`);
    process.exit(1);
  },
);

import { parseArgs } from 'node:util';
import { printableMessage } from '@dstack-cloud/encoding';
import { errorChain } from '@dstack-cloud/runtime';
import { prepare } from './boot/prepare.ts';
import { loadGuestConfig } from './config/guest-config.ts';
import { warnIfSimulated } from './config/warn-if-simulated.ts';
import { hostNotifier } from './host/host-api.ts';
import { createLogger } from './log.ts';
import { openConfiguredDevice } from './open-device.ts';
import { VERSION } from './version.ts';

const USAGE = `Usage: dstack-prepare --config FILE

Prepares a machine once per boot: copies the host-shared files, measures them, gets the application's keys and decrypts
its environment. Ends with status 0, or 1 after telling the host why.

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
    process.stdout.write(values.help ? USAGE : `dstack-prepare ${VERSION}\n`);
    return;
  }
  // Every file of a boot is for this user alone, also those that a library makes.
  process.umask(0o077);
  const config = loadGuestConfig(values.config);
  const log = createLogger('dstack-prepare');
  warnIfSimulated(config, log);
  const notify = hostNotifier(config.hostApiUrl, log);
  try {
    const openDevice = (vmConfig: () => string) => openConfiguredDevice(config, vmConfig);
    const { keyProvider } = await prepare({ config, openDevice, notify, log });
    process.stdout.write(`dstack-prepare ready: keys from ${keyProvider}\n`);
  } catch (error) {
    await notify('boot.error', errorChain(error));
    throw error;
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`Error: ${printableMessage(errorChain(error))}\n`);
    process.exit(1);
  },
);

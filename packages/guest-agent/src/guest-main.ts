import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { notifyServiceManager } from '@dstack-cloud/attestation/attester';
import { printable, printableMessage } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import { errorChain } from '@dstack-cloud/runtime';
import { thisMachine } from './boot/disk/machine-host.ts';
import { machineSteps } from './boot/machine-steps.ts';
import { prepare } from './boot/prepare.ts';
import { withTee } from './boot/tee.ts';
import { type GuestConfig, loadGuestConfig } from './config/guest-config.ts';
import { warnIfSimulated } from './config/warn-if-simulated.ts';
import { startGatewayClient } from './gateway/start-gateway-client.ts';
import { hostNotifier, type NotifyHost } from './host/host-api.ts';
import { createLogger, type Logger } from './log.ts';
import { openConfiguredDevice } from './open-device.ts';
import { runMachineApp } from './runner/run-machine-app.ts';
import { serveAgent } from './serve-agent.ts';
import { VERSION } from './version.ts';
import { watchOver } from './watchdog.ts';

const USAGE = `Usage: dstack-guest --config FILE

All of a machine of its own in one program: prepares it once per boot, serves keys and evidence, runs the application.
Ends with status 70 when the machine cannot be prepared, after telling the host why.

  -c, --config FILE  guest configuration (JSON)
      --version      print the version
  -h, --help         print this text
`;

/** EX_SOFTWARE of sysexits.h: the service manager reboots the machine then. */
const BOOT_FAILED = 70;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      config: { type: 'string', short: 'c', default: '/etc/dstack/guest.json' },
      version: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help || values.version) {
    process.stdout.write(values.help ? USAGE : `dstack-guest ${VERSION}\n`);
    return 0;
  }
  const stopping = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const)
      process.on(signal, () => {
        stopping.abort();
        resolve();
      });
  });
  const log = createLogger('dstack-guest');
  const say = (line: string) => process.stdout.write(`${printable(line)}\n`);
  const configured = loadGuestConfig(values.config);
  const notify = hostNotifier(configured.hostApiUrl, log);
  let config: GuestConfig;
  try {
    config = await withTee(configured, thisMachine, log);
    await prepareOnce(config, notify, log);
  } catch (error) {
    log.error({ error: errorChain(error) }, 'The machine cannot be prepared; it reboots');
    await notify('boot.error', errorChain(error));
    return BOOT_FAILED;
  }
  warnIfSimulated(config, log);
  const served = await serveAgent(config, log);
  say(`dstack-guest ready: ${served.addresses.join(' ')}`);
  const leaveGateway = await startGatewayClient(served.agent, notify);
  const unwatch = await watchOver(config.listen.dstackSock, log);
  // Files of the application are read by its containers, whose users may be anybody.
  process.umask(0o022);
  const { signal } = stopping;
  const app = runMachineApp({ config, host: thisMachine, notify, log, say, signal });
  await stopped;
  await notifyServiceManager('STOPPING=1');
  unwatch();
  const running = await app;
  await running?.stop();
  if (running !== undefined) say('Application has stopped');
  await leaveGateway?.();
  await served.close();
  return 0;
}

/** A program that starts again after a crash finds the machine prepared. */
async function prepareOnce(config: GuestConfig, notify: NotifyHost, log: Logger): Promise<void> {
  const marker = join(config.runDir, 'dstack', 'prepared');
  if (isThere(marker)) return log.info('The machine is prepared already');
  // Every file of a boot is for this user alone, also those that a library makes.
  process.umask(0o077);
  const openDevice = (vmConfig: () => string) => openConfiguredDevice(config, vmConfig);
  const machine = machineSteps(config, thisMachine, log);
  await prepare({ config, openDevice, notify, log, machine });
  await mkdir(dirname(marker), { recursive: true });
  await writeFile(marker, '', { flag: 'wx', mode: 0o600 });
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`Error: ${printableMessage(errorChain(error))}\n`);
    process.exit(1);
  },
);

import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { printableMessage } from '@dstack-cloud/encoding';
import { createAgent } from './agent/create-agent.ts';
import { hostNotifier } from './boot/host-api.ts';
import { loadGuestConfig } from './config/guest-config.ts';
import { warnIfSimulated } from './config/warn-if-simulated.ts';
import { causeChain } from './errors.ts';
import { createHandlers } from './http/handlers.ts';
import { startListeners } from './http/start-listeners.ts';
import { createLogger } from './log.ts';
import { applicationContainers, dockerSocketPath } from './machine/containers.ts';
import { openConfiguredDevice } from './open-device.ts';
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
  const openDevice = (vmConfig: () => string) => openConfiguredDevice(config, vmConfig);
  const { agent, close } = await createAgent({ config, openDevice, log });
  const handlers = createHandlers(agent, {
    containers: applicationContainers(
      config.runDir,
      config.runner.logDir,
      dockerSocketPath({ ...process.env, ...config.runner.engineEnv }),
      config.root === '/' ? undefined : config.runner.project,
    ),
    notify: hostNotifier(config.hostApiUrl, log),
    powerOff: () => powerOff(config.root),
  });
  const listeners = await startListeners(config, handlers);
  // Makes Info complete as soon as somebody can ask for it.
  agent.demoCertificate.current();
  process.stdout.write(`dstack-guest-agent ready: ${listeners.addresses.join(' ')}\n`);
  await stopped;
  await listeners.close();
  await close();
}

/** Ends the machine: as its service manager does, or, where a directory stands for it, by ending the agent. */
function powerOff(root: string): void {
  if (root !== '/') {
    process.kill(process.pid, 'SIGTERM');
    return;
  }
  const child = spawn('systemctl', ['poweroff'], { stdio: 'ignore' });
  child.once('error', (error) =>
    process.stderr.write(`Cannot power off: ${printableMessage(error.message)}\n`),
  );
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`Error: ${printableMessage(causeChain(error))}\n`);
    process.exit(1);
  },
);

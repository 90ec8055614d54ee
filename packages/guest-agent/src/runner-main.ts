import { parseArgs } from 'node:util';
import { printable, printableMessage } from '@dstack-cloud/encoding';
import { errorChain } from '@dstack-cloud/runtime';
import { loadGuestConfig } from './config/guest-config.ts';
import { hostNotifier } from './host/host-api.ts';
import { createLogger } from './log.ts';
import { runApp } from './runner/run-app.ts';
import { VERSION } from './version.ts';

const USAGE = `Usage: dstack-app-runner --config FILE

Starts the application of a prepared machine: pre_launch_script, then docker or podman compose, or the services of the
compose file as plain processes when no engine answers. Stops it on SIGTERM or SIGINT.

  -c, --config FILE  guest configuration (JSON)
      --version      print the version
  -h, --help         print this text
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      config: { type: 'string', short: 'c', default: '/etc/dstack/guest.json' },
      version: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help || values.version) {
    process.stdout.write(values.help ? USAGE : `dstack-app-runner ${VERSION}\n`);
    return 0;
  }
  const config = loadGuestConfig(values.config);
  const notify = hostNotifier(config.hostApiUrl, createLogger('dstack-app-runner'));
  const stopping = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        stopping.abort();
        resolve();
      });
    }
  });
  const say = (line: string) => process.stdout.write(`${printable(line)}\n`);
  try {
    const app = await runApp({ config, notify, say, machineEnv: process.env, signal: stopping.signal });
    say(`dstack-app-runner ready: ${app.services.join(', ')}`);
    // Promises alone keep no process alive: the services' pipes may all be closed.
    const alive = setInterval(() => undefined, 1 << 30);
    await stopped;
    clearInterval(alive);
    await app.stop();
    return 0;
  } catch (error) {
    if (stopping.signal.aborted) return 0;
    await notify('boot.error', `failed to start containers: ${errorChain(error)}`);
    throw error;
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`Error: ${printableMessage(errorChain(error))}\n`);
    process.exit(1);
  },
);

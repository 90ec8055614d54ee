#!/usr/bin/env node
import cluster from 'node:cluster';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { printableMessage } from '@dstack-cloud/encoding';
import { errorChain } from '@dstack-cloud/runtime';
import { runSubcommand, SUBCOMMAND_USAGE } from './command/run-subcommand.ts';
import { loadConfig } from './config/load-config.ts';
import { printConfig } from './config/print-config.ts';
import { openServices } from './services.ts';
import { startKms } from './start-kms.ts';
import { createLog } from './telemetry/log.ts';
import { VERSION } from './version.ts';
import { forkWorker } from './workers/fork-worker.ts';
import { runWorker } from './workers/run-worker.ts';
import { WorkerPool } from './workers/worker-pool.ts';

const USAGE = `Usage: dstack-kms [options] [command]

Commands:
  (none)          run the KMS
  check-config    check the configuration and end
${SUBCOMMAND_USAGE}

Options:
  -c, --config FILE   configuration, TOML if it ends in .toml, else JSON
  --print-config      print the effective configuration without secrets and end
  -V, --version       print the version
  -h, --help          print this help
`;

async function main(): Promise<number> {
  if (cluster.isWorker) {
    await runWorker();
    // It ends when the primary says so.
    return new Promise<number>(() => undefined);
  }
  if (await runSubcommand(process.argv.slice(2))) return 0;
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      config: { type: 'string', short: 'c' },
      'print-config': { type: 'boolean' },
      version: { type: 'boolean', short: 'V' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return print(USAGE);
  if (values.version) return print(`dstack-kms ${VERSION}\n`);
  const config = loadConfig(values.config, process.env);
  if (values['print-config']) return print(`${printConfig(config)}\n`);
  const [command, ...more] = positionals;
  if (command === 'check-config' && more.length === 0) {
    // Whatever a start would refuse about addresses and files is refused here; nobody is asked anything.
    openServices(config, { log: createLog('silent') }).close();
    for (const warning of config.warnings) process.stderr.write(`warning: ${printableMessage(warning)}\n`);
    return print('The configuration is valid\n');
  }
  if (command !== undefined) throw new Error(`Unknown command "${positionals.join(' ')}"\n\n${USAGE}`);
  return serve(config);
}

async function serve(config: Parameters<typeof startKms>[0]): Promise<number> {
  // Whatever is created without a mode of its own is nobody else's.
  process.umask(0o077);
  keepMemoryOutOfCoreDumps();
  const log = createLog(config.logLevel, undefined, { isShared: config.workers > 1 });
  const stop = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    stop.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second signal does not wait.
      if (stop.signal.aborted) process.exit(1);
      stop.abort();
    });
  }
  // Without a handler the signal would end a service that is not up yet.
  let renew = async (): Promise<void> => undefined;
  process.on('SIGHUP', () => void renew());
  try {
    const { workers: count } = config;
    const front = count === 1 ? {} : { front: new WorkerPool({ count, log, fork: forkWorker }) };
    const running = await startKms(config, { log, signal: stop.signal, ...front });
    renew = running.renewCertificate;
    try {
      await Promise.race([stopped, running.failed]);
    } finally {
      // Also a service that failed writes what it still has to say, and leaves its locks.
      await running.close();
    }
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return 0;
    log.fatal({ error: errorChain(error) }, 'dstack-kms cannot run');
    throw error;
  }
}

/** Keys are in memory. A dump of this process, and of those it starts, holds none of it (core(5)); elsewhere than on Linux nothing is done. */
function keepMemoryOutOfCoreDumps(): void {
  try {
    writeFileSync('/proc/self/coredump_filter', '0');
  } catch {
    // No such file, or a container that mounts /proc for reading: then the limit of the container decides.
  }
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`dstack-kms: ${printableMessage(errorChain(error))}\n`);
    process.exit(1);
  },
);

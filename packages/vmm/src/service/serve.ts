import { printableLog } from '@dstack-cloud/encoding';
import { makeOwnDirectory, removeAbandoned, withLock } from '@dstack-cloud/files';
import { boundedLines } from '@dstack-cloud/prpc';
import { type DestinationStream, destination, type Logger, pino } from 'pino';
import { asVmmErrors } from '../folder/machine-folder.ts';
import type { VmmConfig } from './config/vmm-config.ts';
import { announce } from './discovery.ts';
import { Images } from './images.ts';
import { Machines } from './machines/machines.ts';
import { emptyTrash } from './machines/trash.ts';
import { statusOf } from './machines/vm-info.ts';
import { RegistryImages } from './registry/registry-images.ts';
import { RestartKeeper } from './restart-keeper.ts';
import { checkFiles } from './server/check-files.ts';
import { vmmHandler } from './server/handler.ts';
import { listen } from './server/listener.ts';
import { createMetrics } from './server/metrics.ts';
import { operatorsOf } from './server/operators.ts';
import { VERSION } from './version.ts';

const TRASH_EVERY_MS = 600_000;

/** The service's logger: one line of JSON per message on standard error. */
export function createLog(
  level: string,
  output: DestinationStream = destination({ dest: 2, sync: true }),
): Logger {
  const options = { level, base: { service: 'dstack-vmm' }, hooks: boundedLines().hooks };
  return pino(options, printableLog(output));
}

/**
 * Serves until `signal` fires. Machines go on without the service: each has a supervisor of its own, and the next
 * service finds them in the run folder.
 *
 * @param ready told where it listens
 * @throws VmmError `locked` when another service has the run folder, `listen_failed`, `bad_config`
 */
export async function serve(
  config: VmmConfig,
  signal: AbortSignal,
  options: { readonly log: Logger; readonly configFile?: string; readonly ready?: (address: string) => void },
): Promise<void> {
  const { run_path } = config;
  const lock = { waitMs: 0, what: `The run folder ${run_path}`, signal };
  await asVmmErrors(run_path, async () => {
    makeOwnDirectory(run_path);
    await withLock(run_path, 'service', lock, () => serveLocked(config, signal, options));
  });
}

async function serveLocked(
  config: VmmConfig,
  signal: AbortSignal,
  { log, configFile, ready }: Parameters<typeof serve>[2],
): Promise<void> {
  const images = new Images(config.image_path);
  const machines = new Machines(config, images, (id, what, error) =>
    log.error({ vm: id, what, error: message(error) }, 'machine failed'),
  );
  await checkFiles(config);
  const registry = new RegistryImages({
    registry: config.image.registry,
    authFile: config.image.registry_auth_file,
    imagePath: config.image_path,
    pulled: (image) => log.info({ image }, 'image pulled'),
    failed: (image, error) =>
      log.error({ image, error: message(error) }, `failed to pull registry image ${image}`),
  });
  const metrics = createMetrics(VERSION, () => countByStatus(machines));
  const operators = operatorsOf(config);
  const handler = vmmHandler({ service: { config, machines, images, registry }, operators, metrics, log });
  const keeper = new RestartKeeper(machines, config.cvm.auto_restart, {
    restarted: (vm, attempt) => {
      metrics.restarted();
      log.info({ vm, attempt }, 'machine is started again');
    },
    gaveUp: (vm, attempts) => log.error({ vm, attempts }, 'machine is not started again'),
    stopped: (vm) => log.info({ vm }, 'machine stopped by itself'),
    failed: (vm, error) => log.error({ vm, error: message(error) }, 'machine failed'),
  });
  // Images half pulled or half deleted by a service that was killed.
  removeAbandoned(config.image_path);
  await machines.settle();
  const listener = await listen(config, handler, { metrics, log });
  try {
    const withdraw = await announce(config, listener.address, configFile).catch((error: unknown) => {
      // Only a convenience.
      log.warn({ error: message(error) }, 'not announced');
      return undefined;
    });
    const trash = startTrash(config, log);
    try {
      log.info({ address: listener.address, run_path: config.run_path }, 'listening');
      ready?.(listener.address);
      await keeper.begin();
      await untilAborted(signal);
    } finally {
      keeper.close();
      clearInterval(trash);
      await withdraw?.();
    }
  } finally {
    await Promise.all([listener.close(), registry.close()]);
  }
}

function startTrash({ run_path, trash_ttl }: VmmConfig, log: Logger): NodeJS.Timeout {
  const empty = (): void =>
    void emptyTrash(run_path, trash_ttl * 1000, Date.now()).then(
      (deleted) => deleted > 0 && log.info({ machines: deleted }, 'trash emptied'),
      (error: unknown) => log.error({ error: message(error) }, 'trash cannot be emptied'),
    );
  empty();
  const timer = setInterval(empty, TRASH_EVERY_MS);
  timer.unref();
  return timer;
}

async function countByStatus(machines: Machines): Promise<Record<string, number>> {
  const counts: Record<string, number> = { running: 0, exited: 0, stopping: 0, stopped: 0 };
  for (const machine of await machines.list())
    counts[statusOf(machine)] = (counts[statusOf(machine)] ?? 0) + 1;
  return counts;
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  // The listener keeps the process alive, not this.
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

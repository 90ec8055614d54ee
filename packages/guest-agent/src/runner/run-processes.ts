import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Dependency,
  type ProcessService as PlannedService,
  planProcesses,
} from '@dstack-cloud/app/compose-file';
import { GuestError } from '../errors.ts';
import { containersFile, writeContainers } from '../machine/containers-file.ts';
import { prepareService } from './prepare-service.ts';
import type { ProcessRunOptions } from './process-run-options.ts';
import type { ProcessService } from './process-service.ts';

/** A running application. */
export interface RunningApp {
  readonly services: readonly string[];
  stop(): Promise<void>;
}

/**
 * Starts the services of a compose file as plain child processes: no image, no network or mount namespace, no
 * isolation from each other or from the host. Meant for development on a machine without a container engine.
 *
 * @throws AppError `compose-file-invalid`, `compose-file-unsupported`, GuestError `start-failed`; nothing is left running
 * then
 */
export async function runProcesses(options: ProcessRunOptions): Promise<RunningApp> {
  const { say, folders, variables, sealedEnv } = options;
  const missing = new Set<string>();
  const onMissing = (name: string) => missing.add(name);
  const plan = planProcesses(options.file, { variables, sealedEnv, onMissing });
  for (const name of missing) say(`Variable ${name} is not set; it is replaced by an empty text`);
  for (const name of plan.skipped) say(`Service ${name} belongs to a profile and is not started`);
  for (const note of plan.notes) say(note);
  say(
    'No container engine: services run as plain processes with NO ISOLATION (no image, no network or mount namespace)',
  );
  const group = new ServiceGroup(containersFile(folders.runDir), options);
  const portOwner = ownerOfPort(plan.services);
  try {
    await group.start(plan.services, (service) =>
      prepareService(service, options, service.name === portOwner, group.publish),
    );
  } catch (error) {
    await group.stop();
    throw error;
  }
  return { services: plan.services.map(({ name }) => name), stop: () => group.stop() };
}

/** PORT names the one port that the host forwards: it belongs to the first service that publishes any. */
function ownerOfPort(services: readonly PlannedService[]): string | undefined {
  return (services.find(({ ports }) => ports.length > 0) ?? (services.length === 1 ? services[0] : undefined))
    ?.name;
}

/** Services that start when what they depend on is there, and end together. */
class ServiceGroup {
  readonly #file: string;
  readonly #options: ProcessRunOptions;
  readonly #starting = new Map<string, Promise<ProcessService>>();
  /** In the order in which they were started. */
  readonly #running: ProcessService[] = [];
  readonly #stopping = new AbortController();

  constructor(file: string, options: ProcessRunOptions) {
    this.#file = file;
    this.#options = options;
  }

  readonly publish = (): void => writeContainers(this.#file, this.#running);

  /** @param order each service after those that it depends on */
  async start(
    order: readonly PlannedService[],
    prepare: (service: PlannedService) => Promise<ProcessService>,
  ): Promise<void> {
    for (const service of order) {
      const started = this.#startOne(service, prepare);
      started.catch(() => undefined);
      this.#starting.set(service.name, started);
    }
    await Promise.all(this.#starting.values());
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.allSettled(this.#starting.values());
    // The last started first: nobody loses what it depends on while it still runs.
    await Promise.all(this.#running.toReversed().map((service) => service.stop()));
    await rm(join(this.#options.folders.runDir, 'secrets'), { recursive: true, force: true });
  }

  async #startOne(
    service: PlannedService,
    prepare: (service: PlannedService) => Promise<ProcessService>,
  ): Promise<ProcessService> {
    for (const dependency of service.dependsOn) await this.#waitFor(service.name, dependency);
    const process_ = await prepare(service);
    this.#throwIfStopping();
    this.#running.push(process_);
    await process_.start();
    this.#options.say(`Service ${service.name} started, process ${process_.pid}`);
    return process_;
  }

  async #waitFor(service: string, { name, condition, required }: Dependency): Promise<void> {
    const starting = this.#starting.get(name);
    if (starting === undefined) return;
    try {
      const dependency = await starting;
      if (condition !== 'completed') return;
      this.#options.say(`Service ${service} waits until ${name} has completed`);
      const code = await this.#unlessStopping(dependency.ended());
      if (code === 0) return;
      throw new GuestError(
        'start-failed',
        `Service ${service} waits for ${name}, which ended with status ${code}`,
      );
    } catch (error) {
      this.#throwIfStopping();
      if (required) throw error;
      this.#options.say(`Service ${service} starts without ${name}: ${(error as Error).message}`);
    }
  }

  async #unlessStopping<T>(promise: Promise<T>): Promise<T> {
    const signal = AbortSignal.any([this.#stopping.signal, this.#options.signal]);
    let stop = (): void => undefined;
    const stopped = new Promise<never>((_, reject) => {
      stop = () => reject(new GuestError('start-failed', 'The application is stopped'));
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
    });
    try {
      return await Promise.race([promise, stopped]);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  #throwIfStopping(): void {
    if (this.#stopping.signal.aborted || this.#options.signal.aborted)
      throw new GuestError('start-failed', 'The application is stopped');
  }
}

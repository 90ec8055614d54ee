import type { Socket } from 'node:net';
import { parseCertificate } from '@dstack-cloud/attestation';
import { toBase64 } from '@dstack-cloud/encoding';
import { withTimeout } from '@dstack-cloud/runtime';
import { KmsError } from '../errors.ts';
import type { Kms } from '../kms.ts';
import type { SharedRateLimits } from '../limits/rate-limits.ts';
import { type MainListener, turnedAwayFrom } from '../server/main-listener.ts';
import type { Front, Shared } from '../start-kms.ts';
import type { Log } from '../telemetry/log.ts';
import { type MetricJson, readMetrics } from '../telemetry/metrics.ts';
import { type Deferred, deferred } from './deferred.ts';
import { FrontDoor } from './front-door.ts';
import { Link, type Port, type WireError } from './link.ts';
import { type Primary, primaryHandlers } from './primary-handlers.ts';
import type { WorkerMethods } from './protocol.ts';
import { RestartPolicy } from './restart-policy.ts';
import { addEnded, sumMetrics } from './sum-metrics.ts';

/** A process that serves, as the pool sees it. */
export type WorkerProcess = {
  readonly pid: number | undefined;
  readonly port: Port;
  /** Hands it a connection. */
  give(socket: Socket): void;
  onExit(listener: (how: string) => void): void;
  kill(): void;
};

export type WorkerPoolOptions = {
  readonly count: number;
  readonly log: Log;
  readonly fork: () => WorkerProcess;
  /** Milliseconds that never go back. */
  readonly now?: () => number;
  /** How often workers are looked at, and for how long one may say nothing before it is ended. */
  readonly watch?: { readonly everyMs: number; readonly silentMs: number };
};

type Slot = {
  readonly number: number;
  readonly restarts: RestartPolicy;
  process: WorkerProcess | undefined;
  link: Link<WorkerMethods> | undefined;
  isServing: boolean;
  metrics: readonly MetricJson[];
  timer: NodeJS.Timeout | undefined;
};

const WATCH = { everyMs: 10_000, silentMs: 30_000 };
/** Scrapers give up after ten seconds. */
const SCRAPE_TIMEOUT_MS = 5_000;
/** What was begun ends within so much, and all processes within five seconds of the signal. */
const GRACE_MS = 4_000;
const KILL_AFTER_MS = GRACE_MS + 500;

/**
 * Workers that take the connections of one listener, kept at their number. The primary keeps what there must be one of:
 * the audit log, the RPC certificate, the admin listener, downloads, the sums of limits and metrics.
 */
export class WorkerPool implements Front {
  readonly #options: WorkerPoolOptions;
  readonly #slots: readonly Slot[];
  readonly #now: () => number;
  readonly #primary: Deferred<Primary> = deferred();
  readonly #started: Deferred<void> = deferred();
  readonly #failed: Deferred<never> = deferred();
  #limits: SharedRateLimits | undefined;
  #kms: Kms | undefined;
  #certificate: Uint8Array | undefined;
  #ended: Promise<readonly MetricJson[]> = Promise.resolve([]);
  #exposition: Promise<string> | undefined;
  #door: FrontDoor | undefined;
  /** All workers have served at the same time once. */
  #hasStarted = false;
  #watching: NodeJS.Timeout | undefined;
  #isStopping = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#slots = Array.from({ length: options.count }, (_, index) => ({
      number: index + 1,
      restarts: new RestartPolicy(this.#now),
      process: undefined,
      link: undefined,
      isServing: false,
      metrics: [],
      timer: undefined,
    }));
    // Whoever waits for them hears of it; nobody may.
    for (const { promise } of [this.#started, this.#failed]) promise.catch(() => undefined);
  }

  readonly service: Kms['service'] = {
    exposition: () => {
      // Several who scrape at the same time get the same answer.
      this.#exposition ??= this.#expose().finally(() => {
        this.#exposition = undefined;
      });
      return this.#exposition;
    },
    workers: async () => ({
      configured: this.#options.count,
      serving: this.#serving().length,
      started: this.#hasStarted,
    }),
  };

  /** Begins the processes; each loads the program and then waits for what to serve. */
  prepare(): void {
    for (const slot of this.#slots) if (slot.process === undefined) this.#begin(slot);
  }

  /** Waits for an image no longer where a download failed before. */
  imagesCleared(): void {
    for (const { link } of this.#slots) link?.tell('forgetImages', null);
  }

  /** Ends the processes of a service that did not come up. */
  stop(): Promise<void> {
    return this.#stop(0);
  }

  /** @throws KmsError when a worker cannot serve */
  async start(kms: Kms, { limits, files, certificate }: Shared): Promise<MainListener> {
    this.#kms = kms;
    this.#limits = limits;
    this.#useCertificate(certificate);
    const { address, port, tls } = kms.config.rpc;
    const { max_connections: max, max_connections_per_address: maxPerNetwork } = tls;
    const door = new FrontDoor({ max, maxPerNetwork }, turnedAwayFrom(kms));
    this.#door = door;
    this.prepare();
    const pool = this;
    this.#primary.resolve({
      kms,
      limits,
      files,
      get certificate() {
        return pool.#certificate ?? certificate;
      },
    });
    await this.#started.promise;
    const bound = await door.listen(address, port);
    const { everyMs } = this.#options.watch ?? WATCH;
    this.#watching = setInterval(() => void this.#watch(), everyMs);
    this.#watching.unref();
    return {
      ...bound,
      failed: this.#failed.promise,
      useCertificate: (der) => this.#useCertificate(der),
      close: (graceMs = GRACE_MS) => this.#stop(graceMs),
    };
  }

  #begin(slot: Slot): void {
    const process = this.#options.fork();
    slot.process = process;
    slot.restarts.started();
    slot.link = new Link<WorkerMethods>(
      process.port,
      primaryHandlers(slot.number, this.#primary.promise, {
        serving: () => {
          // The last words of a process may arrive after its end.
          if (slot.process !== process) return null;
          slot.isServing = true;
          this.#count();
          this.#options.log.info({ worker: slot.number, pid: process.pid }, 'worker serves');
          this.#door?.add(process);
          if (this.#hasStarted || this.#serving().length < this.#slots.length) return null;
          this.#hasStarted = true;
          this.#started.resolve();
          return null;
        },
        took: () => this.#door?.took(process),
        failed: (error) => {
          this.#refuseStart(slot, error);
          return null;
        },
        taken: (taken) => {
          this.#limits?.count(taken);
          for (const other of this.#slots) if (other !== slot) other.link?.tell('taken', taken);
        },
        currentKeys: (news) => {
          this.#kms?.currentKeys.learn(news);
          for (const other of this.#slots) if (other !== slot) other.link?.tell('currentKeys', news);
        },
      }),
    );
    process.onExit((how) => this.#onExit(slot, process, how));
  }

  /** What one worker cannot do at the start, no other can: a file that is missing, for instance. */
  #refuseStart({ number }: Slot, error: WireError): void {
    const cause = error.kind === 'kms' ? new KmsError(error.code, error.message) : new Error(error.message);
    this.#options.log.error({ worker: number, error: error.message }, 'worker cannot serve');
    if (!this.#hasStarted) this.#started.reject(cause);
  }

  #onExit(slot: Slot, process: WorkerProcess, how: string): void {
    this.#door?.remove(process);
    if (slot.process !== process) return;
    const { metrics } = slot;
    Object.assign(slot, { process: undefined, link: undefined, isServing: false, metrics: [] });
    this.#count();
    if (this.#isStopping) return;
    // One after the other: of two that end together, neither's counts may be lost.
    this.#ended = this.#ended.then((ended) => addEnded(ended, metrics).catch(() => ended));
    this.#options.log.error({ worker: slot.number, pid: process.pid, how }, 'worker ended');
    const delay = slot.restarts.ended();
    if (delay === undefined) {
      const text = `Worker ${slot.number} ends again and again, the last time by ${how}; the log says why`;
      const error = new KmsError('worker-failed', text);
      this.#started.reject(error);
      this.#failed.reject(error);
      return;
    }
    this.#kms?.metrics.workerRestarts.inc();
    slot.timer = setTimeout(() => this.#begin(slot), delay);
  }

  /** Reads what workers count, so that little of it is lost with one, and ends one that hangs. */
  async #watch(): Promise<void> {
    const { silentMs } = this.#options.watch ?? WATCH;
    await Promise.all(
      this.#serving().map(async (slot) => {
        const { process } = slot;
        if (await this.#readWorker(slot, false, silentMs)) return;
        if (slot.process !== process || this.#isStopping) return;
        this.#options.log.error({ worker: slot.number, pid: process?.pid }, 'worker does not answer');
        process?.kill();
      }),
    );
  }

  async #readWorker(slot: Slot, isScrape: boolean, timeoutMs: number): Promise<boolean> {
    const { link } = slot;
    const metrics = await link?.call('metrics', { isScrape }, timeoutMs).catch(() => undefined);
    if (metrics === undefined) return false;
    if (slot.link === link) slot.metrics = metrics;
    return true;
  }

  /** A worker that does not answer in time counts with what it said last. */
  async #expose(): Promise<string> {
    const kms = this.#kms!;
    const own = withTimeout(readMetrics(kms.metrics, true), SCRAPE_TIMEOUT_MS);
    await Promise.all(this.#serving().map((slot) => this.#readWorker(slot, true, SCRAPE_TIMEOUT_MS)));
    return sumMetrics([await own, await this.#ended, ...this.#slots.map(({ metrics }) => metrics)]);
  }

  #serving(): Slot[] {
    return this.#slots.filter(({ isServing }) => isServing);
  }

  #count(): void {
    this.#kms?.metrics.workers.set(this.#serving().length);
  }

  #useCertificate(certificate: Uint8Array): void {
    this.#certificate = certificate;
    this.#kms?.metrics.rpcCertExpiry.set(parseCertificate(certificate).notAfter);
    for (const { link } of this.#slots) link?.tell('useCertificate', toBase64(certificate));
  }

  async #stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    this.#door?.close();
    clearInterval(this.#watching);
    await Promise.all(
      this.#slots.map(
        (slot) =>
          new Promise<void>((resolve) => {
            clearTimeout(slot.timer);
            const { process, link, number } = slot;
            if (process === undefined) return resolve();
            const timer = setTimeout(
              () => {
                this.#options.log.error({ worker: number }, 'worker does not stop');
                process.kill();
              },
              graceMs + KILL_AFTER_MS - GRACE_MS,
            );
            process.onExit(() => {
              clearTimeout(timer);
              resolve();
            });
            link?.tell('stop', { graceMs });
          }),
      ),
    );
  }
}

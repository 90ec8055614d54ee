import { fromBase64 } from '@dstack-cloud/encoding';
import { errorChain } from '@dstack-cloud/runtime';
import { assembleKms } from '../assemble-kms.ts';
import type { ImageKeeper } from '../image/os-images.ts';
import type { Kms } from '../kms.ts';
import { rateLimits, type SharedRateLimits } from '../limits/rate-limits.ts';
import { serveMain } from '../server/main-listener.ts';
import { openServices } from '../services.ts';
import { createLog } from '../telemetry/log.ts';
import { readMetrics } from '../telemetry/metrics.ts';
import { consumedBatch } from './consumed-batch.ts';
import { type HandlersOf, Link, toWire } from './link.ts';
import { perWorkerLimits } from './per-worker-limits.ts';
import { onConnection, primaryPort } from './process-port.ts';
import type { PrimaryMethods, WorkerMethods, WorkerStart } from './protocol.ts';
import { remoteAudit } from './remote-audit.ts';
import { readKeys } from './write-keys.ts';

/** A scrape, a proof or a count takes no longer. */
const QUERY_TIMEOUT_MS = 10_000;

/**
 * Serves as one worker of a KMS until the primary says stop. When the primary ends, the process does at once:
 * node:cluster sees to that, and without the primary there are no records, and so no releases.
 */
export async function runWorker(): Promise<void> {
  process.umask(0o077);
  // A terminal and some supervisors signal all processes of a group. The primary says what happens.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
  const worker = new Serving();
  const link: Link<PrimaryMethods> = new Link<PrimaryMethods>(primaryPort(), worker.handlers);
  try {
    // The primary answers when there is something to serve, which may be after an onboarding.
    const start = await link.call('start', null);
    const main = worker.begin(link, start);
    onConnection((socket) => {
      // Before any work on it: the next one is on its way meanwhile.
      link.tell('took', null);
      if (socket !== undefined) main.serve(socket);
    });
    await link.call('serving', null);
  } catch (error) {
    await link.call('failed', toWire(error), QUERY_TIMEOUT_MS).catch(() => undefined);
    process.exit(1);
  }
}

/** What the primary tells may come before all is there that it concerns; nothing of it is lost. */
class Serving {
  #limits: SharedRateLimits | undefined;
  #certificate = '';
  #kms: Kms | undefined;
  #main: ReturnType<typeof serveMain> | undefined;

  readonly handlers: HandlersOf<WorkerMethods> = {
    metrics: ({ isScrape }) => (this.#kms === undefined ? [] : readMetrics(this.#kms.metrics, isScrape)),
    taken: (taken) => this.#limits?.count(taken),
    currentKeys: (news) => this.#kms?.currentKeys.learn(news),
    useCertificate: (der) => this.#useCertificate(der),
    forgetImages: () => this.#kms?.images.forget(),
    stop: ({ graceMs }) => void this.#stop(graceMs),
  };

  begin(link: Link<PrimaryMethods>, start: WorkerStart): ReturnType<typeof serveMain> {
    const config = perWorkerLimits(start.config);
    const log = createLog(config.logLevel, undefined, { fields: { worker: start.number }, isShared: true });
    process.on('uncaughtExceptionMonitor', (error) =>
      log.fatal({ error: errorChain(error) }, 'worker failed'),
    );
    const services = openServices(config, { log, files: start.files, imageKeeper: imageKeeper(link) });
    const { metrics, images } = services;
    const limits = rateLimits(config, metrics, {
      onConsumed: consumedBatch((taken) => link.tell('taken', taken)),
    });
    limits.setLevels(start.levels);
    this.#limits = limits;
    const kms = assembleKms(services, {
      config,
      keys: readKeys(start.keys),
      images,
      limits,
      audit: remoteAudit({ config, link, metrics, log }),
      service: {
        exposition: () => link.call('exposition', null, QUERY_TIMEOUT_MS),
        workers: () => link.call('workers', null, QUERY_TIMEOUT_MS),
      },
    });
    kms.currentKeys.learn(start.currentKeys);
    kms.currentKeys.tell = (news) => link.tell('currentKeys', [news]);
    this.#kms = kms;
    const main = serveMain(kms, fromBase64(start.certificate));
    this.#main = main;
    if (this.#certificate !== '') this.#useCertificate(this.#certificate);
    return main;
  }

  #useCertificate(der: string): void {
    this.#certificate = der;
    this.#main?.useCertificate(fromBase64(der));
  }

  /** What was begun is finished while the channel to the primary, and so to the audit log, is still open. */
  async #stop(graceMs: number): Promise<void> {
    await this.#main?.close(graceMs).catch(() => undefined);
    process.exit(0);
  }
}

function imageKeeper(link: Link<PrimaryMethods>): ImageKeeper {
  return {
    // A download takes as long as it may take; the caller is answered in time by whoever asked for it.
    obtain: (hash) => link.call('obtainImage', hash).then(() => undefined),
    clear: (keys) => link.call('clearImages', keys, QUERY_TIMEOUT_MS).then(() => undefined),
  };
}

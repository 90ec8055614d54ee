import { k256Backend } from '@dstack-cloud/keys';
import { errorChain } from '@dstack-cloud/runtime';
import { startAdminListener } from './admin/admin-listener.ts';
import { assembleKms } from './assemble-kms.ts';
import { openAudit } from './audit/audit-log.ts';
import { unknownRoots } from './authorize/unknown-roots.ts';
import type { ConfiguredFiles } from './config/configured-files.ts';
import type { KmsConfig } from './config/kms-config.ts';
import { KmsError } from './errors.ts';
import { closeSecrets } from './key-directory/close-secrets.ts';
import { keyDirectoryState, recoverKeyDirectory } from './key-directory/commit.ts';
import { loadKeys } from './key-directory/load-keys.ts';
import { lockKeyDirectory } from './key-directory/lock.ts';
import type { ClusterService, Kms } from './kms.ts';
import { rateLimits, type SharedRateLimits } from './limits/rate-limits.ts';
import { bootstrap } from './onboard/bootstrap.ts';
import { startOnboarding } from './onboard/onboard-listener.ts';
import type { OnboardingContext } from './onboard/onboarding-context.ts';
import { keepRenewing, renewRpcCertificate } from './rpc-certificate.ts';
import type { Listener } from './server/listen.ts';
import { loadPasswordCheck } from './server/load-password-check.ts';
import { type MainListener, startMainListener } from './server/main-listener.ts';
import { openServices, type ServiceOptions, type Services } from './services.ts';
import type { Metrics } from './telemetry/metrics.ts';

export type StartOptions = ServiceOptions & {
  /** Ends the onboarding, if it is under way. */
  readonly signal?: AbortSignal;
  /** Told when the onboarding listener is up. */
  readonly onOnboarding?: (listener: Listener) => void;
  /** What takes the connections; a listener of this process by default. */
  readonly front?: Front;
};

/** What there is once in a service, whichever process serves. */
export type Shared = {
  readonly limits: SharedRateLimits;
  readonly files: ConfiguredFiles;
  /** The RPC certificate to begin with, DER. */
  readonly certificate: Uint8Array;
};

/** What takes the connections of a KMS. */
export type Front = {
  readonly service: ClusterService;
  /** Begins what takes time; there are keys now. */
  prepare(): void;
  start(kms: Kms, shared: Shared): Promise<MainListener>;
  /** The cache of OS images was cleared. */
  imagesCleared(): void;
  /** Ends what `prepare` began, when the start fails. */
  stop(): Promise<void>;
};

/** A KMS that serves. */
export type RunningKms = {
  readonly main: Listener;
  readonly admin: Listener | undefined;
  readonly kms: Kms;
  /** Issues a new RPC certificate and uses it for new connections. */
  renewCertificate(): Promise<void>;
  /** Rejects when it can go on no longer. */
  readonly failed: Promise<never>;
  close(): Promise<void>;
};

/**
 * Starts a KMS: gets keys first if there are none, by onboarding on the same port, then serves.
 * @throws KmsError; `keys-in-use` when another process has the key directory, `keys-missing` when the onboarding ended without keys
 */
export async function startKms(config: KmsConfig, options: StartOptions): Promise<RunningKms> {
  const lock = await lockKeyDirectory(config.core.cert_dir);
  try {
    const running = await startLocked(config, options);
    const close = async (): Promise<void> => {
      try {
        await running.close();
      } finally {
        await lock.release();
      }
    };
    return { ...running, close };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function startLocked(config: KmsConfig, options: StartOptions): Promise<RunningKms> {
  const { log } = options;
  for (const warning of config.warnings) log.warn({ warning }, 'configuration warning');
  const services = openServices(config, options);
  const opened: Closer[] = [async () => services.close(), () => services.images.close()];
  try {
    return await open(services, options, opened);
  } catch (error) {
    for (const close of opened.reverse()) {
      // The reason why there is no start is the one to tell.
      await close().catch((cause: unknown) => log.warn({ error: errorChain(cause) }, 'cannot be closed'));
    }
    throw error;
  }
}

type Closer = () => Promise<void>;

/** @param opened gets what is to be closed, last first, when this throws */
async function open(services: Services, options: StartOptions, opened: Closer[]): Promise<RunningKms> {
  const { config, trust, files, simulated, metrics, agent, images, log, now } = services;
  if (simulated)
    log.warn({ simulated }, 'A trust root that is not the vendor is configured: evidence may be simulated');
  const directory = config.core.cert_dir;

  const front = options.front ?? ownFront(metrics);
  await ensureKeys(services, options);
  opened.push(() => front.stop());
  front.prepare();
  await closeSecrets(directory, (name, closed) =>
    log.warn({ name, closed }, 'key file was readable by other users'),
  );
  const keys = await loadKeys(directory, {
    now: now(),
    ...(config.core.onboard.auto_bootstrap_domain && { domain: config.core.onboard.auto_bootstrap_domain }),
    onRenewed: (name) => log.warn({ name }, 'key directory file reissued'),
  });
  for (const { app, root } of unknownRoots(config, keys)) {
    log.error({ app, root }, 'core.key_roots names a root that this KMS does not have');
  }
  const audit = await openAudit({ config, keys, metrics, log, now });
  // Workers may serve before all do: they end before what they record in.
  opened.push(
    () => audit.close(),
    () => front.stop(),
  );
  const limits = rateLimits(config, metrics);
  const kms = assembleKms(services, {
    config,
    keys,
    audit,
    limits,
    images: {
      ...images,
      clear: async (wanted) => {
        await images.clear(wanted);
        front.imagesCleared();
      },
    },
    service: front.service,
  });
  const certificate = await renewRpcCertificate({ config, keys, agent, now });
  const main = await front.start(kms, { limits, files, certificate });
  opened.push(() => main.close(0));
  const { admin: adminConfig } = config.core;
  const admin = adminConfig.enabled
    ? await startAdminListener(kms, trust, await loadPasswordCheck(adminConfig.htpasswd_file))
    : undefined;
  const renewing = keepRenewing({ config, keys, agent, now, log }, main.useCertificate);
  const listening = { address: main.address, port: main.port, domain: keys.domain };
  log.info({ ...listening, secp256k1: k256Backend(), simulated }, 'dstack-kms started');
  return {
    main,
    admin,
    kms,
    renewCertificate: () => renewing.renewNow(),
    failed: main.failed ?? new Promise<never>(() => undefined),
    async close() {
      renewing.stop();
      await Promise.all([main.close(), admin?.close()]);
      await images.close();
      await audit.close();
      services.close();
      log.info('dstack-kms stopped');
    },
  };
}

/** One process does all. */
function ownFront(metrics: Metrics): Front {
  return {
    service: {
      exposition: async () => {
        await Promise.all(metrics.beforeScrape.map((refresh) => refresh()));
        return metrics.registry.metrics();
      },
      workers: async () => ({ configured: 1, serving: 1, started: true }),
    },
    prepare: () => metrics.workers.set(1),
    start: (kms, { certificate }) => startMainListener(kms, certificate),
    imagesCleared: () => undefined,
    stop: async () => undefined,
  };
}

/** Finishes what a crash interrupted, then gets keys if there are none. */
async function ensureKeys(onboarding: OnboardingContext, options: StartOptions): Promise<void> {
  const { config, log } = onboarding;
  const { cert_dir: directory, onboard } = config.core;
  const recovery = await recoverKeyDirectory(directory);
  if (recovery !== 'nothing') log.warn({ recovery }, 'an interrupted bootstrap or rotation was cleaned up');
  if ((await keyDirectoryState(directory)) !== 'empty' || !onboard.enabled) return;
  if (onboard.auto_bootstrap_domain !== '') {
    await bootstrap(onboarding, onboard.auto_bootstrap_domain);
    return;
  }
  const { listener, done } = await startOnboarding(onboarding);
  options.onOnboarding?.(listener);
  const aborted = new Promise<void>((resolve) => {
    options.signal?.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([done, aborted]);
  await listener.close(500);
  if (options.signal?.aborted === true || (await keyDirectoryState(directory)) !== 'keys') {
    throw new KmsError('keys-missing', 'Failed to onboard: stopped before there were keys');
  }
}

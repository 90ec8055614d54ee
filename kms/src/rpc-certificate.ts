import { join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { certificatePem } from '@dstack-cloud/ra-tls';
import { errorChain } from '@dstack-cloud/runtime';
import type { GuestAgent } from './agent/guest-agent.ts';
import type { KmsConfig } from './config/kms-config.ts';
import { KmsError } from './errors.ts';
import type { KmsKeys } from './key-directory/kms-keys.ts';
import { issueRpcCertificate } from './key-directory/new-keys.ts';
import { attestOf } from './onboard/onboarding-context.ts';
import type { Log } from './telemetry/log.ts';

/**
 * The RPC certificate is renewed this often, so that its evidence stays fresh (docs/protocol/ra-tls.md section 2.2).
 */
const RENEW_EVERY_MS = 24 * 3600 * 1000;
const RETRY_EVERY_MS = 3600 * 1000;

type Dependencies = {
  readonly config: KmsConfig;
  readonly keys: KmsKeys;
  readonly agent: GuestAgent;
  readonly now: () => number;
};

/**
 * Issues a new RPC certificate and keeps it in the key directory.
 * @throws KmsError `certificate` when there is no evidence for it
 */
export async function renewRpcCertificate(dependencies: Dependencies): Promise<Uint8Array> {
  const { config, keys, now } = dependencies;
  try {
    const certificate = await issueRpcCertificate(keys, Math.floor(now()), attestOf(dependencies));
    const path = join(config.core.cert_dir, 'rpc.crt');
    await writeFileAtomic(path, certificatePem(certificate), { mode: 0o644 });
    return certificate;
  } catch (cause) {
    throw new KmsError('certificate', 'Failed to reissue the attested KMS RPC certificate', { cause });
  }
}

/** Renews daily, and when told to, until stopped; a failure is logged and tried again every hour. */
export function keepRenewing(
  dependencies: Dependencies & { readonly log: Log },
  use: (certificate: Uint8Array) => void,
): { renewNow(): Promise<void>; stop(): void } {
  let timer: NodeJS.Timeout;
  const schedule = (delay: number): void => {
    timer = setTimeout(() => void renew(), delay);
    timer.unref();
  };
  let running: Promise<void> | undefined;
  // Two at once would leave two timers.
  const renew = (): Promise<void> => {
    running ??= renewOnce().finally(() => {
      running = undefined;
    });
    return running;
  };
  const renewOnce = async (): Promise<void> => {
    clearTimeout(timer);
    try {
      use(await renewRpcCertificate(dependencies));
      dependencies.log.info('RPC certificate renewed');
      schedule(RENEW_EVERY_MS);
    } catch (error) {
      dependencies.log.error({ error: errorChain(error) }, 'RPC certificate could not be renewed');
      schedule(RETRY_EVERY_MS);
    }
  };
  schedule(RENEW_EVERY_MS);
  return { renewNow: renew, stop: () => clearTimeout(timer) };
}

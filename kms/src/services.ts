import { type GuestAgent, guestAgent } from './agent/guest-agent.ts';
import { type ConfiguredFiles, readConfiguredFiles } from './config/configured-files.ts';
import type { KmsConfig } from './config/kms-config.ts';
import { evidenceVerifier } from './evidence/evidence-verifier.ts';
import { makeTrust, type Trust } from './evidence/trust.ts';
import { type ImageKeeper, openOsImages } from './image/os-images.ts';
import type { OnboardingContext } from './onboard/onboarding-context.ts';
import { makePolicy } from './policy/make-policy.ts';
import { selfAuthorization } from './self/self-authorization.ts';
import type { Log } from './telemetry/log.ts';
import { createMetrics } from './telemetry/metrics.ts';
import { VERSION } from './version.ts';

export type ServiceOptions = {
  readonly log: Log;
  /** Unix seconds; the system clock by default. */
  readonly now?: () => number;
  readonly agent?: GuestAgent;
  readonly trust?: Trust;
  /** What the configured files say; they are read when it is absent. */
  readonly files?: ConfiguredFiles;
  /** Who downloads OS images, if not this process. */
  readonly imageKeeper?: ImageKeeper;
};

/** What a KMS works with before it has keys: trust, policy, guest agent, itself. */
export type Services = OnboardingContext & {
  readonly trust: Trust;
  readonly files: ConfiguredFiles;
  close(): void;
};

/** @throws KmsError, PolicyError for a configuration that cannot be used */
export function openServices(config: KmsConfig, options: ServiceOptions): Services {
  const { log, now = () => Date.now() / 1000 } = options;
  const files = options.files ?? readConfiguredFiles(config);
  const trust = options.trust ?? makeTrust(config, files);
  const { simulated } = trust;
  const metrics = createMetrics({ version: VERSION, simulated, imageVerified: config.core.image.verify });
  const policy = makePolicy(config, files, { log, metrics });
  const agent = options.agent ?? guestAgent(config.agentAddress);
  const evidence = evidenceVerifier(config, trust, { metrics, log, now });
  const self = selfAuthorization({ config, policy, metrics, log, now, agent, trust });
  return {
    config,
    agent,
    policy,
    self,
    evidence,
    metrics,
    log,
    simulated,
    now,
    trust,
    files,
    images: openOsImages(config, {
      metrics,
      log,
      ...(options.imageKeeper !== undefined && { keeper: options.imageKeeper }),
    }),
    close() {
      policy.close?.();
      agent.close();
    },
  };
}

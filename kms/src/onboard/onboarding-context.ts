import type { Policy } from '@dstack-cloud/policy';
import type { GuestAgent } from '../agent/guest-agent.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import type { EvidenceVerifier } from '../evidence/evidence-verifier.ts';
import type { OsImages } from '../image/os-images.ts';
import type { KeyFileSystem } from '../key-directory/file-system.ts';
import type { Attest } from '../key-directory/new-keys.ts';
import type { SelfAuthorization } from '../self/self-authorization.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/** Dependencies of bootstrap, replication and rotation. */
export type OnboardingContext = {
  readonly config: KmsConfig;
  readonly agent: GuestAgent;
  readonly policy: Policy;
  readonly self: SelfAuthorization;
  readonly evidence: EvidenceVerifier;
  readonly images: OsImages;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly simulated: boolean;
  /** Unix seconds. */
  readonly now: () => number;
  readonly fs?: KeyFileSystem;
};

/** How certificates get their evidence; undefined when the configuration says that they have none. */
export function attestOf({ config, agent }: Pick<OnboardingContext, 'config' | 'agent'>): Attest | undefined {
  return config.core.attest_rpc_cert ? (reportData) => agent.attest(reportData) : undefined;
}

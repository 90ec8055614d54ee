import type { IncomingMessage } from 'node:http';
import type { Policy } from '@dstack-cloud/policy';
import type { Audit } from './audit/audit-log.ts';
import type { KmsConfig } from './config/kms-config.ts';
import type { EvidenceVerifier } from './evidence/evidence-verifier.ts';
import type { VerifiedEvidence } from './evidence/verified-evidence.ts';
import type { OsImages } from './image/os-images.ts';
import type { KmsKeys } from './key-directory/kms-keys.ts';
import type { RateLimits } from './limits/rate-limits.ts';
import type { CurrentKeys } from './policy/current-keys.ts';
import type { SelfAuthorization } from './self/self-authorization.ts';
import type { Log } from './telemetry/log.ts';
import type { Metrics } from './telemetry/metrics.ts';

/** Everything that the main listener's methods work with. */
export type Kms = {
  readonly config: KmsConfig;
  readonly keys: KmsKeys;
  /** What the policy said last of applications' keys. */
  readonly currentKeys: CurrentKeys;
  readonly policy: Policy;
  readonly evidence: EvidenceVerifier;
  readonly self: SelfAuthorization;
  readonly audit: Audit;
  readonly limits: RateLimits;
  readonly images: OsImages;
  readonly log: Log;
  readonly metrics: Metrics;
  /** The service, of which this process may be one worker. */
  readonly service: ClusterService;
  /** True when a trust root that is not the vendor's is configured. */
  readonly simulated: boolean;
  /** Unix seconds. */
  readonly now: () => number;
};

/** What is asked of all processes of a service, whichever of them is asked. */
export type ClusterService = {
  /** Metrics as Prometheus text. */
  exposition(): Promise<string>;
  /** How many processes there are to be, how many serve, and whether all have served at the same time once. */
  workers(): Promise<{ readonly configured: number; readonly serving: number; readonly started: boolean }>;
};

/** Who makes a call: address and, when the certificate carries evidence, what was verified of it. */
export type Caller = {
  readonly address: string;
  readonly request: IncomingMessage;
  readonly attestation: VerifiedEvidence | undefined;
};
